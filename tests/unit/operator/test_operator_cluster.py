"""What the API server's refusals become."""

import json

import pytest

from kubedistill_operator.cluster import ApiError, Conflict, NotFound, Unavailable, _error

TERMINATING = {"causes": [{"reason": "NamespaceTerminating", "message": "namespace a is being terminated"}]}


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (404, {"reason": "NotFound"}, NotFound),
        (403, {"reason": "Forbidden", "details": TERMINATING}, NotFound),
        (403, {"reason": "Forbidden", "details": {"causes": None}}, ApiError),
        (403, {"reason": "Forbidden"}, ApiError),
        (409, {"reason": "Conflict"}, Conflict),
        (429, {}, Unavailable),
        (500, {}, Unavailable),
    ],
)
def test_an_answer_is_told_by_its_status_and_its_causes(status: int, answer: dict, kind: type[ApiError]) -> None:
    assert type(_error(status, json.dumps(answer).encode(), None)) is kind


def test_an_answer_that_is_no_json_is_shown_as_it_is() -> None:
    error = _error(502, b"<html>bad gateway</html>", "7")
    assert isinstance(error, Unavailable)
    assert error.retry_after == 7
    assert "bad gateway" in str(error)
