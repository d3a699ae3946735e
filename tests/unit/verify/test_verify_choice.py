"""Which letter a response settles on, and that hedging never pays."""

import itertools

import pytest

from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.verify.choice import LETTERS, check_letter, extract_choice, letters_of
from kubedistill_runtime.verify.pool import VerifierPool
from kubedistill_runtime.verify.types import Item

FOUND = [
    (r"\boxed{B}", "B", "boxed"),
    (r"\boxed{b}", "B", "boxed"),
    (r"\boxed{(B)}", "B", "boxed"),
    (r"\boxed{\text{B}}", "B", "boxed"),
    (r"\boxed{\textbf{(B)}}", "B", "boxed"),
    (r"$\boxed{\mathrm{B}}$", "B", "boxed"),
    (r"\boxed{B. Paris}", "B", "boxed"),
    (r"\boxed{B) A number}", "B", "boxed"),
    (r"\boxed{B: Vitamin C}", "B", "boxed"),
    (r"\boxed{\text{Option B}}", "B", "boxed"),
    (r"I compared the four. \boxed{J}", "J", "boxed"),
    ("Answer: B", "B", "phrase"),
    ("Answer: (B)", "B", "phrase"),
    ("**Answer:** B", "B", "phrase"),
    ("**Answer: B**", "B", "phrase"),
    ("Answer: $B$", "B", "phrase"),
    ("Answer: B) 42 m/s", "B", "phrase"),
    ("The correct answer is (D).", "D", "phrase"),
    ("The final answer is **C**.", "C", "phrase"),
    ("Therefore the answer is option C, since it is smaller.", "C", "phrase"),
    ("The correct option is (A) because light is a wave.", "A", "phrase"),
    ("Best choice: E", "E", "phrase"),
    ("A and C are too small.\nThe answer is not A.\nAnswer: B", "B", "phrase"),
    ("Option A is wrong, C too.\n\nB", "B", "line"),
    ("so we take\n(B)", "B", "line"),
    ("<think>\\boxed{A} or B?</think>\nAnswer: C", "C", "phrase"),
    ("The answer is B. So \\boxed{B}", "B", "boxed"),
]


@pytest.mark.parametrize(("response", "letter", "found"), FOUND)
def test_the_letter_is_found_in_all_the_ways_that_models_write_it(response: str, letter: str, found: str) -> None:
    choice = extract_choice(response)
    assert (choice.letter, choice.found, choice.error) == (letter, found, None)


HEDGES = [
    r"\boxed{A or B}",
    r"\boxed{A, B}",
    r"\boxed{A and B}",
    r"\boxed{A B}",
    r"\boxed{AB}",
    r"\boxed{A/B}",
    r"\boxed{(A), (B)}",
    r"\boxed{(A)(B)}",
    r"\boxed{A) or B)}",
    r"\boxed{A. Rome B. Paris}",
    r"\boxed{\text{A or B}}",
    r"\boxed{a or b}",
    r"\boxed{A} or \boxed{B}",
    "Answer: A\nAnswer: B",
    "Answer: A or B",
    "Answer: (A) or (B)",
    "The answer is A. \\boxed{B}",
    "A or B",
    "A, B",
]


@pytest.mark.parametrize("response", HEDGES)
@pytest.mark.parametrize("gold", ["A", "B"])
async def test_two_letters_are_never_accepted(response: str, gold: str) -> None:
    async with VerifierPool(VerificationSpec(), 1) as pool:
        verdict = await pool.verify(Item("1", "choice", response, gold=gold))
    assert not verdict.correct
    assert verdict.error is not None


@pytest.mark.parametrize("joint", ["or", "and", ",", "/", ";", "&", "|", "", "or option", "-"])
def test_no_joint_of_two_letters_names_one(joint: str) -> None:
    for one, other in itertools.permutations("ABIJ", 2):
        for text in (f"{one} {joint} {other}", f"({one}) {joint} ({other})", f"{one}{joint}{other}"):
            assert len(letters_of(text)) != 1, text


@pytest.mark.parametrize(
    "response",
    ["", "<think>B", "I think so.", "A number between 1 and 2.", r"\boxed{42}", "Answer: none of them", r"\boxed{K}"],
)
def test_words_and_other_letters_choose_nothing(response: str) -> None:
    choice = extract_choice(response)
    assert choice.letter is None
    assert choice.error


@pytest.mark.parametrize("letter", LETTERS)
async def test_every_gold_passes_its_own_check_and_no_other(letter: str) -> None:
    assert check_letter(letter) is None
    async with VerifierPool(VerificationSpec(), 1) as pool:
        verdicts = [await pool.verify(Item("1", "choice", f"\\boxed{{{other}}}", gold=letter)) for other in LETTERS]
    assert [verdict.correct for verdict in verdicts] == [other == letter for other in LETTERS]
    assert {verdict.method for verdict in verdicts} == {"choice"}


@pytest.mark.parametrize("gold", ["", "K", "AB", "b", "(B)", "42"])
def test_a_gold_that_is_no_letter_is_refused(gold: str) -> None:
    assert "no letter A to J" in (check_letter(gold) or "")


async def test_off_takes_every_well_formed_response() -> None:
    async with VerifierPool(VerificationSpec(choice="off"), 1) as pool:
        verdict = await pool.verify(Item("1", "choice", "<think>x</think> whatever", gold="A"))
    assert (verdict.correct, verdict.method) == (True, "off")
