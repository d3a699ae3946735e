"""From answers to scores: before, after, and the paired difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kubedistill_api.status import Score, ScoreDelta
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.evaluate.estimators import Floats, average, majority_at, pass_at
from kubedistill_runtime.evaluate.intervals import RESAMPLES, Estimate, difference_interval, mean_interval
from kubedistill_runtime.evaluate.results import Answers

Who = Literal["base", "student"]


@dataclass(frozen=True)
class Scores:
    """Everything that the evaluation says."""

    scores: list[Score]
    deltas: list[ScoreDelta]
    details: dict[str, Any]
    """`{samples, confidence, resamples, benchmarks: [...]}`; every benchmark with its questions one by one."""

    def to_json(self) -> dict[str, Any]:
        """The content of scores.json."""
        return {
            "scores": [score.model_dump(mode="json", by_alias=True) for score in self.scores],
            "deltas": [delta.model_dump(mode="json", by_alias=True) for delta in self.deltas],
            "details": self.details,
        }

    def metrics(self) -> dict[str, float]:
        """Flat figures: `BENCHMARK/avg@8/student`, `.../student/lo`, `.../student/hi`; also base and delta."""
        flat: dict[str, float] = {}
        entries: list[Score | ScoreDelta] = [*self.scores, *self.deltas]
        for entry in entries:
            who = entry.model if isinstance(entry, Score) else "delta"
            key = f"{entry.benchmark}/{entry.metric}/{who}"
            flat |= {key: entry.mean, f"{key}/lo": entry.ci[0], f"{key}/hi": entry.ci[1]}
        return flat


def score(
    student: Mapping[str, Answers],
    base: Mapping[str, Answers] | None,
    *,
    pass_at_k: Sequence[int] = (),
    majority_at_k: Sequence[int] = (),
    confidence: float = 0.95,
) -> Scores:
    """Scores of the student, of the base where its answers are given, and their paired differences.

    majority@k is given where the answers have votes. Raises BadInput when the base has not answered the same questions
    with as many samples.
    """
    result = Scores([], [], {"confidence": confidence, "resamples": RESAMPLES, "benchmarks": []})
    for name, answers in student.items():
        before = _matching(name, answers, base) if base is not None else None
        methods: dict[str, str] = {}
        for metric, after_rates in _metrics(answers, pass_at_k, majority_at_k).items():
            after = mean_interval(after_rates, answers.samples, confidence)
            methods[metric] = after.method
            if before is not None:
                before_rates = _metrics(before, pass_at_k, majority_at_k)[metric]
                estimate = mean_interval(before_rates, answers.samples, confidence)
                result.scores.append(_score(name, "base", metric, len(before_rates), estimate))
                delta = difference_interval(after_rates, before_rates, answers.samples, confidence)
                result.deltas.append(ScoreDelta(benchmark=name, metric=metric, mean=delta.mean, ci=delta.ci))
            result.scores.append(_score(name, "student", metric, len(after_rates), after))
        result.details["benchmarks"].append(_details(answers, before, methods))
    return result


def _metrics(answers: Answers, pass_at_k: Sequence[int], majority_at_k: Sequence[int]) -> dict[str, Floats]:
    values = {f"avg@{answers.samples}": average(answers.correct)}
    if answers.once:
        return values
    # pass@1 is avg@k by another name.
    for k in sorted(set(pass_at_k) - {1}):
        _check_samples("pass", k, answers.samples)
        values[f"pass@{k}"] = pass_at(k, answers.correct)
    if answers.votes is None:
        return values
    # A vote of one is avg@k once more.
    for k in sorted(set(majority_at_k) - {1}):
        _check_samples("majority", k, answers.samples)
        values[f"majority@{k}"] = majority_at(k, answers.votes, answers.correct)
    return values


def _check_samples(metric: str, k: int, samples: int) -> None:
    if k > samples:
        raise BadInput(
            f"evaluation.{metric}At: {metric}@{k} needs at least {k} samples per question (evaluation.samples is "
            f"{samples}); raise samples or lower {metric}At"
        )


def _matching(name: str, student: Answers, base: Mapping[str, Answers]) -> Answers:
    if name not in base:
        raise BadInput(f"benchmark {name}: the base has no results, so there is nothing to compare with")
    before = base[name]
    if before.questions != student.questions or before.samples != student.samples:
        raise BadInput(
            f"benchmark {name}: base and student did not answer the same questions in the same order "
            f"({len(before.questions)} x {before.samples} and {len(student.questions)} x {student.samples} answers)"
        )
    return before


def _score(benchmark: str, who: Who, metric: str, questions: int, estimate: Estimate) -> Score:
    return Score(benchmark=benchmark, model=who, metric=metric, n=questions, mean=estimate.mean, ci=estimate.ci)


def _details(student: Answers, base: Answers | None, methods: dict[str, str]) -> dict[str, Any]:
    before_rates = average(base.correct).tolist() if base else [None] * len(student.questions)
    return {
        "benchmark": student.benchmark,
        "questions": len(student.questions),
        "samples": student.samples,
        "intervals": methods,
        "student": _behaviour(student),
        "base": _behaviour(base) if base else None,
        "perQuestion": [
            {"questionId": question, "base": before, "student": after}
            for question, before, after in zip(
                student.questions, before_rates, average(student.correct).tolist(), strict=True
            )
        ],
    }


def _behaviour(answers: Answers) -> dict[str, float | int]:
    return {
        "truncatedShare": float(answers.truncated.mean()),
        "meanTokens": float(answers.tokens.mean()),
        "errors": answers.errors,
    }
