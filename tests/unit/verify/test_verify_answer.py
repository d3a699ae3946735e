"""Finding the final answer of a response."""

import pytest

from kubedistill_runtime.verify.answer import MAX_ANSWER, MAX_RESPONSE, extract_answer, last_boxed


@pytest.mark.parametrize(
    ("response", "text", "found"),
    [
        (r"<think>\boxed{1}</think>The answer is \boxed{2}.", "2", "boxed"),
        (r"no thinking at all, \boxed{7}", "7", "boxed"),
        (r"the template opened it: hmm</think>\boxed{8}", "8", "boxed"),
        (r"</think>first \boxed{1}, then \boxed{2}", "2", "boxed"),
        (r"</think>\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}", "boxed"),
        (r"</think>\boxed{\left\{ 1, 2 \right\}}", r"\left\{ 1, 2 \right\}", "boxed"),
        (r"</think>\boxed{5} and \boxed{6", "5", "boxed"),
        (r"</think>\boxed {5}", "5", "boxed"),
        (r"</think>\fbox{5}", "5", "boxed"),
        (r"</think>\boxed{\boxed{5}}", r"\boxed{5}", "boxed"),
        (r"</think>\boxed{\text{a \} b}}", r"\text{a \} b}", "boxed"),
        ("</think>So the answer is 42.", "42", "phrase"),
        ("</think>**Final Answer:** $\\frac{1}{2}$ and that is it", r"\frac{1}{2}", "phrase"),
        ("</think>Answer: 3.5\n", "3.5", "phrase"),
        ("</think>The answer is 7. We are done.", "7", "phrase"),
        ("</think>work\n#### 1,234", "1,234", "phrase"),
        ("</think>The answer is 1.\nNo: the answer is 2.", "2", "phrase"),
        ("</think>We add them up.\n\n$x = 5$.", "x = 5", "line"),
        ("</think>We add them up.\n**12**", "12", "line"),
        ("</think>We add them up.\n3/4", "3/4", "line"),
    ],
)
def test_the_final_answer_is_found(response, text, found):
    answer = extract_answer(response)

    assert (answer.text, answer.found, answer.error) == (text, found, None)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (r"<think>\boxed{5} and so on", "truncated"),
        (r"<think>a</think>\boxed{5}<think>wait", "truncated"),
        (r"<think>\boxed{5}</think>", "no answer after the thinking"),
        (r"<think>\boxed{5}</think>I would rather not say.", "no final answer"),
        (r"</think>\boxed{}", "no final answer"),
        (r"</think>I counted 5 apples and 6 pears.", "no final answer"),
        ("", "empty"),
        ("</think>\\boxed{" + "1" * (MAX_ANSWER + 1) + "}", f"at most {MAX_ANSWER}"),
        ("a" * (MAX_RESPONSE + 1), f"at most {MAX_RESPONSE}"),
    ],
)
def test_a_response_without_a_final_answer_says_why(response, reason):
    answer = extract_answer(response)

    assert answer.text is None
    assert reason in answer.error


@pytest.mark.parametrize("unit", [r"\boxed{", "{", "}", r"\boxed{1}", "answer is ", "$", "\n", "\\", "**"])
@pytest.mark.timeout(60)
def test_hostile_text_is_searched_in_linear_time(unit):
    """In quadratic time it would take hours."""
    answer = extract_answer("</think>" + unit * (400_000 // len(unit)))

    assert answer.text == ("1" if unit == r"\boxed{1}" else None)


def test_an_unbalanced_box_does_not_swallow_the_text():
    assert last_boxed(r"\boxed{1 and {2} then \boxed{3}") == "3"
