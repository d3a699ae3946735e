"""Traces of an endpoint that gives no token ids are compared by their words."""

from kubedistill_runtime.curate.distance import encode
from kubedistill_runtime.curate.types import Trace
from kubedistill_runtime.stages.curate import _with_units


def units(*responses: str) -> list[list[int]]:
    traces = [Trace("q", i, (), response, "stop", True) for i, response in enumerate(responses)]
    return [list(trace.response_token_ids) for trace in _with_units(traces)]


def test_equal_words_have_equal_numbers_and_others_do_not() -> None:
    first, second = units("two and two, four", "four and two")
    assert first == [0, 1, 0, 2, 3]
    assert second == [3, 1, 0]


def test_the_numbers_can_be_compared() -> None:
    assert [len(text) for text in encode(units("eins zwei drei", "vier", ""))] == [3, 1, 0]


def test_token_ids_that_are_there_stay() -> None:
    (trace,) = _with_units([Trace("q", 0, (7, 8), "two words", "stop", True)])
    assert trace.response_token_ids == (7, 8)
