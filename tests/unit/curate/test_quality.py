import random
from array import array

import pytest

from kubedistill_api.curation import QualitySpec
from kubedistill_runtime.curate.quality import flaw, repeated_share, thinking_flaw
from kubedistill_runtime.curate.types import Trace

GOOD = "<think>\nhm\n</think>\n42"


def trace(response=GOOD, tokens=10, finish_reason="stop"):
    return Trace("q", 0, array("I", range(tokens)), response, finish_reason, True)


def code(reason):
    return reason and reason.code


@pytest.mark.parametrize(
    ("response", "strict", "lenient"),
    [
        (GOOD, None, None),
        ("  <think>hm</think>42", None, None),
        ("42", "think_tags", None),
        ("", "think_tags", "empty_answer"),
        ("hm</think>42", "think_tags", "think_tags"),
        ("<think>hm 42", "think_tags", "think_tags"),
        ("</think>hm<think>42", "think_tags", "think_tags"),
        ("<think>a<think>b</think>42", "think_tags", "think_tags"),
        ("<think>a</think>b</think>42", "think_tags", "think_tags"),
        ("<think>a</think>b<think>c</think>42", "think_tags", None),
        ("Sure! <think>hm</think>42", "think_tags", None),
        ("<think> \n</think>42", "empty_thinking", None),
        ("<think>hm</think> \n", "empty_answer", "empty_answer"),
    ],
)
def test_think_tags_are_checked_strictly_leniently_or_not_at_all(response, strict, lenient):
    assert code(thinking_flaw(response, "strict")) == strict
    assert code(thinking_flaw(response, "any")) == lenient
    assert thinking_flaw(response, "off") is None


@pytest.mark.parametrize(
    ("response", "expected"),
    [("hm</think>42", None), (GOOD, "think_tags"), ("42", "think_tags"), ("</think>42", "empty_thinking")],
)
def test_a_template_that_opens_the_thinking_leaves_the_closing_tag_to_the_response(response, expected):
    assert code(flaw(trace(response), QualitySpec(), prompt_opens_think=True)) == expected


@pytest.mark.parametrize(
    ("finish_reason", "expected"), [("stop", None), ("length", "truncated"), ("abort", "unfinished")]
)
def test_a_response_must_have_ended_by_itself(finish_reason, expected):
    assert code(flaw(trace(finish_reason=finish_reason), QualitySpec(think="off"))) == expected


def test_the_token_limit_is_inclusive_and_can_be_lifted():
    assert flaw(trace(tokens=50), QualitySpec(max_tokens=50)) is None
    assert code(flaw(trace(tokens=51), QualitySpec(max_tokens=50))) == "too_long"
    assert flaw(trace(tokens=20_000), QualitySpec(max_tokens=None)) is None


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20])
def test_the_repeated_share_equals_a_count_with_a_set(n):
    rng = random.Random(n)
    for length in (0, 1, n, n + 1, 60, 400):
        tokens = [rng.randrange(2) for _ in range(length)]
        grams = [tuple(tokens[i : i + n]) for i in range(length - n + 1)]
        expected = 1 - len(set(grams)) / len(grams) if grams else 0.0
        assert repeated_share(tokens, n) == pytest.approx(expected)


def test_a_loop_is_repetitive_and_a_permutation_is_not():
    spec = QualitySpec(max_repetition=0.3, think="off")
    loop = Trace("q", 0, array("I", list(range(40)) * 25), "text", "stop", True)
    assert code(flaw(loop, spec)) == "repetitive"
    assert flaw(trace(tokens=1000), spec) is None
    assert flaw(loop, QualitySpec(think="off")) is None
