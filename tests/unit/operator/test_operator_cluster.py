"""What the API server's refusals become."""

import json

import pytest
import yaml

from kubedistill_operator.cluster import ApiError, Conflict, NotFound, Unavailable, _error, encoded

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


@pytest.mark.parametrize(
    "said",
    ["GLHF! \U0001f3d6", "na\u00efve \u2026", 'a "quote" \\ud83c', "\x00\x1b[1m\x7f\x9f\ufeff\uffff", "bar\x7f"],
)
def test_what_a_program_said_is_sent_so_that_yaml_reads_it_too(said: str) -> None:
    """gloo ends its errors with an emoji; a status that quotes one was refused, again and again."""
    body = {"status": {"message": said}}
    sent = encoded(body)
    assert json.loads(sent) == yaml.safe_load(sent) == body


def test_half_a_character_is_sent_as_the_mark_for_none() -> None:
    assert json.loads(encoded({"a": "cut \ud83c"})) == {"a": "cut \ufffd"}
