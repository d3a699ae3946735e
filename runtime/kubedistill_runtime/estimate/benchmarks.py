"""What the scores of a plan will be able to tell: expected widths of intervals, and what would narrow them."""

import math
from dataclasses import dataclass, replace

from kubedistill_api.benchmarks import PRESETS, preset_at
from kubedistill_api.data import Benchmark
from kubedistill_api.graph import Resource, recipe
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.study import DistillationStudy, arms
from kubedistill_runtime.estimate.tokens import Count, count_questions
from kubedistill_runtime.evaluate.precision import Spread, half_width, questions_for, samples_for
from kubedistill_runtime.evaluate.rounds import pair_confidence


@dataclass(frozen=True)
class Needed:
    """What an interval of the wanted half-width takes."""

    samples: int | None
    """Per question, with the questions there are; None: no number of samples is enough."""
    questions: int
    """With the samples there are."""


@dataclass(frozen=True)
class BenchmarkForecast:
    """One benchmark. Half-widths are shares, from 0 to 1; None for a single question, which has no spread."""

    name: str
    preset: str | None
    uri: str
    questions: Count
    samples: int
    assumed: float
    """The score that the widths are for: what is usual for a preset."""
    score: float | None = None
    """Of the interval of a score."""
    difference: float | None = None
    """Of the paired interval of two models."""
    least: float | None = None
    """Of the same with any number of samples: what the choice of questions leaves."""
    for_score: Needed | None = None
    for_difference: Needed | None = None


def benchmark_forecasts(resource: Resource, wanted: float | None = None) -> list[BenchmarkForecast]:
    """The benchmarks of a job, a probe or a study, with what the half-width `wanted` would take.

    A probe and a study correct the intervals of their differences for the number of pairs, and average over training
    seeds; what seeds differ by nobody knows beforehand, and it is not in these figures.
    """
    evaluation = recipe(resource).evaluation
    of_pair, seeds = _of_a_pair(resource)
    return [
        _forecast(
            benchmark, 1 if benchmark.harness else evaluation.samples, seeds, evaluation.confidence, of_pair, wanted
        )
        for benchmark in evaluation.benchmarks
    ]


def _of_a_pair(resource: Resource) -> tuple[float, int]:
    """Confidence of the interval of one difference, and how many trainings it is averaged over."""
    if isinstance(resource, TeacherProbe):
        procedure, candidates = resource.spec.procedure, len(resource.spec.candidates)
        last = procedure.rounds
        confidence = pair_confidence(procedure.confidence, candidates, last, last, procedure.growth)
        return confidence, max(1, len(procedure.seeds))
    if isinstance(resource, DistillationStudy):
        pairs = sum(arm.against is not None for arm in arms(resource.spec))
        return 1 - (1 - resource.spec.confidence) / max(1, pairs), max(1, len(resource.spec.seeds))
    return resource.spec.evaluation.confidence, 1


def _forecast(
    benchmark: Benchmark, samples: int, seeds: int, confidence: float, of_pair: float, wanted: float | None
) -> BenchmarkForecast:
    preset = preset_at(benchmark.uri, benchmark.subset, benchmark.split)
    spread = Spread(mean=PRESETS[preset].usual) if preset else Spread()
    found = BenchmarkForecast(
        name=benchmark.name,
        preset=preset,
        uri=benchmark.uri,
        questions=count_questions(benchmark),
        samples=samples,
        assumed=spread.mean,
    )
    number, answers = found.questions.value, samples * seeds
    if number < 2:
        return found
    found = replace(
        found,
        score=half_width(number, answers, confidence, spread=spread),
        difference=half_width(number, answers, of_pair, paired=True, spread=spread),
        least=half_width(number, math.inf, of_pair, paired=True, spread=spread),
    )
    if wanted is None:
        return found

    def needed(confidence: float, *, paired: bool) -> Needed:
        enough = samples_for(wanted, number, confidence, paired=paired, spread=spread)
        # A harness task draws once.
        out_of_reach = enough is None or (benchmark.harness is not None and enough > answers)
        return Needed(
            samples=None if enough is None or out_of_reach else math.ceil(enough / seeds),
            questions=questions_for(wanted, answers, confidence, paired=paired, spread=spread),
        )

    return replace(found, for_score=needed(confidence, paired=False), for_difference=needed(of_pair, paired=True))
