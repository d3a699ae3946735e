"""As many questions or traces as another corpus has, so that two corpora differ in their kind and not in their size."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from kubedistill_runtime.curate.difficulty import seeded_rank
from kubedistill_runtime.curate.types import Reason, Selection


@dataclass(frozen=True)
class Matched:
    """The number that is met."""

    of: Literal["questions", "traces"]
    number: int
    """At most so many; where fewer are there, all stay."""


def not_drawn(questions: Iterable[str], match: Matched, seed: int) -> dict[str, Reason]:
    """The questions to drop so that `match.number` stay, each with its reason."""
    reason = Reason("not_drawn", f"not among the {match.number} questions that were drawn at random")
    return dict.fromkeys(_in_drawn_order(questions, seed)[match.number :], reason)


def cut(selections: Mapping[str, Selection], match: Matched, seed: int) -> dict[str, Selection]:
    """The selections with `match.number` traces together: whole questions in a random order, a part of the last one,
    and nothing of the others. The order of the questions stays."""
    room = match.number
    kept: dict[str, Selection] = {}
    for question in _in_drawn_order(selections, seed):
        chosen = selections[question].chosen[:room]
        room -= len(chosen)
        kept[question] = replace(selections[question], chosen=chosen)
    return {question: kept[question] for question in selections}


def beyond(match: Matched | None) -> Reason:
    """Why a question has no trace in the corpus though some were left."""
    return Reason("beyond_number", f"{match.number if match else 0} traces of other questions were drawn before")


def _in_drawn_order(questions: Iterable[str], seed: int) -> list[str]:
    return sorted(questions, key=lambda question: seeded_rank(seed, "matched", question))
