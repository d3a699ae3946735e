"""What becomes of sampled traces: quality, correctness, difficulty, diversity (DED, arXiv 2508.09883, sections 2-3)."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kubedistill_api.base import Model, Rule, later
from kubedistill_api.data import SamplingSpec
from kubedistill_api.verification import VerificationSpec


class QualitySpec(Model):
    """Which responses are well formed. Judged on the response alone, before any answer is looked at."""

    max_tokens: Annotated[int, Field(ge=1, le=1048576)] | None = 16384
    """Longest response in tokens of the teacher (DED: 16k). A response that was cut off is dropped in any case.
    Null: no limit besides the sampler's own."""
    think: Literal["strict", "any", "off"] = "strict"
    """`strict` (DED): exactly one `<think>...</think>` at the start, with thinking inside and an answer after it.
    `any`: as many as there are, or none, as long as they pair up and an answer follows. `off`: not looked at."""
    max_repetition: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Largest share of 20-grams of tokens that are repeats of an earlier one, between 0 and 1; looping responses come
    near 1. Source: the 20-gram filter of arXiv 2505.14464. Null: not looked at."""


class DifficultySpec(SamplingSpec):
    """Which questions are hard for the student, by its pass rate over responses drawn as given here.

    At most one of `maxPassRate` and `keepHardest`; with neither, every question stays and the student is not sampled.
    A question that the student never solves stays too: at this point the teacher has solved it. A question without
    any response of the student is dropped, because nothing shows that it is hard.
    """

    max_pass_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """Drop questions that the student solves more often than this. The paper names no value; `keepHardest` around
    0.28 meets its numbers."""
    keep_hardest: Annotated[float, Field(gt=0, le=1)] | None = None
    """Keep this share of the questions that have a correct trace, those with the lowest pass rates; rounded to the
    nearest number, at least one. DED's own shares are 237/830 (math) and 230/846 (code)."""

    rules: ClassVar = (
        Rule("!has(self.maxPassRate) || !has(self.keepHardest)", "set at most one of maxPassRate and keepHardest"),
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.max_pass_rate is not None and self.keep_hardest is not None:
            raise ValueError(
                f"maxPassRate ({self.max_pass_rate}) and keepHardest ({self.keep_hardest}) are two ways to say which "
                "questions are hard; set one of them, or neither to keep every question"
            )
        return self


class DiversitySpec(Model):
    """How many traces of a question to keep, and which."""

    trajectories: Annotated[int, Field(ge=1, le=64)] = 4
    """Traces per question at most (DED: 4 on average). Where fewer are left, all stay."""
    metric: Literal["levenshtein"] = "levenshtein"
    """Distance between two traces: the least number of insertions, deletions and substitutions."""
    unit: Literal["token", "char"] = "token"
    """What is inserted, deleted and substituted: tokens of the teacher, or characters (about 12 times the work, and
    other values: thresholds do not carry over)."""
    normalised: bool = True
    """Divide a distance by the length of the longer trace. Without, long traces win by being long."""
    select: Literal["farthest", "random", "shortest", "longest"] = "farthest"
    """`farthest` (DED) makes the smallest distance between two kept traces as large as possible, and the mean
    distance among equals. `random`, `shortest` and `longest` are the controls to compare it with."""


class CurationSpec(Model):
    """Which traces are trained on. Every trace and every question keeps a record of what became of it, and why."""

    quality: QualitySpec = QualitySpec()
    """Which responses are well formed."""
    verification: VerificationSpec = VerificationSpec()
    """Which responses are correct. They are judged while they are sampled, the student's in the same way."""
    correctness: Literal["right", "any", "wrong"] = later("right")
    """Which verdicts pass: `right` (DED) keeps verified traces. `any` does not look at the verdict, `wrong` keeps the
    refuted ones: controls that show what verification is worth. Default `right`."""
    difficulty: DifficultySpec = DifficultySpec()
    """Which questions are hard for the student."""
    diversity: DiversitySpec = DiversitySpec()
    """Which correct traces of a hard question to keep."""
    seed: Annotated[int, Field(ge=0, le=2**53)] = 0
    """Decides between questions of equal pass rate, and draws for `select: random`."""
