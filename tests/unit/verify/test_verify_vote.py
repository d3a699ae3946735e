"""Equal answers give equal votes."""

import pytest

from kubedistill_runtime.verify.vote import vote

SAME = [
    (r"\boxed{\frac{1}{2}}", r"The answer is 0.5", "1/2"),
    (r"\boxed{1{,}000}", r"\boxed{1000}", "1000"),
    (r"\boxed{x = 3}", r"\boxed{3.0}", "3"),
    (r"\boxed{50\%}", r"\boxed{50}", "50"),
    (r"\boxed{0.5\%}", r"\boxed{0.005}", "1/200"),
    (r"\boxed{\text{Paris}}", r"\boxed{paris}", "paris"),
    (r"\boxed{\left(1, 2\right)}", r"\boxed{(1,2)}", "(1,2)"),
]


@pytest.mark.parametrize(("one", "other", "ballot"), SAME)
def test_two_spellings_of_an_answer_are_one_vote(one: str, other: str, ballot: str) -> None:
    assert vote("math", one) == vote("math", other) == ballot


def test_a_letter_is_a_vote() -> None:
    assert vote("choice", "Answer: (b)") == vote("choice", r"\boxed{B}") == "B"


@pytest.mark.parametrize("domain", ["math", "choice"])
@pytest.mark.parametrize("response", ["", "<think>never closed 3", "I cannot say."])
def test_no_answer_is_an_empty_vote(domain: str, response: str) -> None:
    assert vote(domain, response) == ""


def test_programs_have_no_votes() -> None:
    with pytest.raises(ValueError, match="domain code cannot be counted"):
        vote("code", "```python\nprint(1)\n```")
