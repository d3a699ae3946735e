"""The standard variants of a study: the ladder of the DED paper, and the controls that it lacks. Pure data.

Each is a set of changes to a job, as dotted path -> value, and what it is matched with.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

StandardVariant = Literal[
    "all",
    "right",
    "right-hard",
    "right-hard-diverse",
    "random-p",
    "shortest-p",
    "longest-p",
    "right-hard-steps",
    "random-questions",
    "right-diverse",
    "wrong",
]

Match = Literal["questions", "traces", "steps"]
"""What a variant takes as many of as `MATCHED_WITH` has."""

MATCHED_WITH: StandardVariant = "right-hard-diverse"


@dataclass(frozen=True)
class Standard:
    """One standard variant."""

    about: str
    """What it is, in a few words."""
    overrides: dict[str, Any] = field(default_factory=dict)
    match: Match | None = None
    needs_difficulty: bool = True
    """It means something only where the job says which questions are hard."""
    needs_several: bool = False
    """It means something only where the job keeps several traces of a question."""


_ONE = {"curation.diversity.trajectories": 1, "curation.diversity.select": "random"}
_ANY_QUESTION = {"curation.difficulty.maxPassRate": None, "curation.difficulty.keepHardest": None}
_RIGHT = {"curation.correctness": "right"}
_FARTHEST = {"curation.diversity.select": "farthest"}


STANDARD: dict[StandardVariant, Standard] = {
    "all": Standard(
        "one trace of every question, right or wrong, in whatever form",
        {
            **_ONE,
            **_ANY_QUESTION,
            "curation.correctness": "any",
            "curation.quality.maxTokens": None,
            "curation.quality.think": "off",
            "curation.quality.maxRepetition": None,
        },
        needs_difficulty=False,
    ),
    "right": Standard(
        "one well-formed, right trace of every question", {**_ONE, **_ANY_QUESTION, **_RIGHT}, needs_difficulty=False
    ),
    "right-hard": Standard("one right trace of every hard question", {**_ONE, **_RIGHT}),
    "right-hard-diverse": Standard(
        "the P farthest right traces of every hard question", {**_FARTHEST, **_RIGHT}, needs_several=True
    ),
    "random-p": Standard(
        "P random right traces of every hard question",
        {**_RIGHT, "curation.diversity.select": "random"},
        needs_several=True,
    ),
    "shortest-p": Standard(
        "the P shortest right traces of every hard question",
        {**_RIGHT, "curation.diversity.select": "shortest"},
        needs_several=True,
    ),
    "longest-p": Standard(
        "the P longest right traces of every hard question",
        {**_RIGHT, "curation.diversity.select": "longest"},
        needs_several=True,
    ),
    "right-hard-steps": Standard(
        "one right trace of every hard question, trained for as many steps as right-hard-diverse",
        {**_ONE, **_RIGHT},
        match="steps",
        needs_several=True,
    ),
    "random-questions": Standard(
        "the P farthest right traces of as many questions as are hard, drawn at random",
        {**_ANY_QUESTION, **_FARTHEST, **_RIGHT},
        match="questions",
        needs_several=True,
    ),
    "right-diverse": Standard(
        "the P farthest right traces of every question",
        {**_ANY_QUESTION, **_FARTHEST, **_RIGHT},
        needs_difficulty=False,
        needs_several=True,
    ),
    "wrong": Standard(
        "as many traces as right-hard-diverse has, all of them wrong",
        {**_ANY_QUESTION, **_FARTHEST, "curation.correctness": "wrong"},
        match="traces",
        needs_several=True,
    ),
}
