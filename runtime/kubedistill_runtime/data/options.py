"""The options of a multiple-choice question: their order, their letters, and which of them is right."""

import hashlib
from collections.abc import Sequence

from kubedistill_runtime.verify.choice import LETTERS


def list_of(texts: Sequence[str | None]) -> list[str]:
    """The options. Raises ValueError for fewer than 2, more than 10, empty ones, and two that are the same."""
    options = [text for text in texts if text]
    if len(options) != len(texts):
        raise ValueError("an option is empty, or no text")
    if not 2 <= len(options) <= len(LETTERS):
        raise ValueError(f"{len(options)} options: a question has 2 to {len(LETTERS)}")
    if len(set(options)) != len(options):
        raise ValueError("two options are the same")
    return options


def shuffled(options: Sequence[str], question: str) -> list[str]:
    """The options in an order that depends on the question and on nothing else: the same for every model and run."""
    return sorted(options, key=lambda option: hashlib.sha256(f"{question}\0{option}".encode()).digest())


def lettered(question: str, options: Sequence[str]) -> str:
    """The question with its options below it, as OpenAI's simple-evals writes them."""
    lines = [f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question, "", *lines])


def letter_of(answer: str | int | None, options: Sequence[str]) -> str:
    """The letter of the right option, from its number (from 0), its text or its letter.

    Raises ValueError where it names none of them.
    """
    if isinstance(answer, int):
        if not 0 <= answer < len(options):
            raise ValueError(f"there is no option number {answer} (from 0) among {len(options)}")
        return LETTERS[answer]
    if answer in options:
        return LETTERS[options.index(answer)]
    if answer is not None and answer in [*LETTERS[: len(options)]]:
        return answer
    raise ValueError(f"{str(answer)[:80]!r} is neither the letter nor the text of one of {len(options)} options")
