"""Does a probe keep its promises? Simulated benchmarks, students and rounds; the decisions are the real code's.

A question has a difficulty, a student a skill, and each pair of them a part of its own; the chance of a right answer is
the logistic function of their sum. `--json` prints one line; `--trials` trades time for precision (the standard error
of a share near 5 % is 0.5 points at 2,000 trials).
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from kubedistill_runtime.evaluate.intervals import mean_interval
from kubedistill_runtime.evaluate.paired import Student, lead
from kubedistill_runtime.evaluate.precision import Spread, half_width
from kubedistill_runtime.evaluate.rounds import leads, pair_confidence

DIFFICULTY, INTERACTION = 1.5, 0.7
"""Spread of questions, and of what is particular to a student and a question, in logits."""
SAMPLES = 8


@dataclass(frozen=True)
class World:
    """Candidates that differ by given skills, in logits."""

    skills: tuple[float, ...]
    seed_spread: float = 0.0
    """Spread of a student's skill over training seeds."""

    def truth(self) -> np.ndarray:
        """The candidates' true scores."""
        spread = (DIFFICULTY**2 + INTERACTION**2 + self.seed_spread**2) ** 0.5
        logits = spread * np.array([NormalDist().inv_cdf((i + 0.5) / 2000) for i in range(2000)])
        return np.array([(1 / (1 + np.exp(-(skill + logits)))).mean() for skill in self.skills])


class Benchmark:
    """Questions that are drawn once and asked in every round."""

    def __init__(self, world: World, questions: int, rng: np.random.Generator) -> None:
        self._world, self._rng = world, rng
        self._difficulty = rng.normal(0, DIFFICULTY, questions)
        self._interaction = rng.normal(0, INTERACTION, (len(world.skills), questions))

    def student(self, candidate: int, samples: int, seeds: int = 1) -> Student:
        """Trained and sampled anew."""
        world, rng = self._world, self._rng
        skill = world.skills[candidate] + rng.normal(0, world.seed_spread, (seeds, 1))
        chance = 1 / (1 + np.exp(-(skill + self._difficulty + self._interaction[candidate])))
        return Student(str(candidate), (rng.binomial(samples, chance) / samples,), (samples,))


def coverage(questions: int, seeds: int, seed_spread: float, trials: int, confidence: float = 0.95) -> float:
    """Share of trials in which the interval of one paired difference holds the true one."""
    world = World((0.8, 0.5), seed_spread)
    true = float(np.subtract(*world.truth()))
    rng = np.random.default_rng([questions, seeds, int(1000 * seed_spread)])
    held = 0
    for _ in range(trials):
        benchmark = Benchmark(world, questions, rng)
        estimate = lead(benchmark.student(0, SAMPLES, seeds), benchmark.student(1, SAMPLES, seeds), confidence)
        held += estimate.low <= true <= estimate.high
    return held / trials


def widths(questions: int, trials: int) -> float:
    """Mean width of the paired interval over that of one that does not know the questions are the same."""
    world, rng = World((0.8, 0.5)), np.random.default_rng(questions)
    z = NormalDist().inv_cdf(0.975)
    ratios = []
    for _ in range(trials):
        benchmark = Benchmark(world, questions, rng)
        one, other = benchmark.student(0, SAMPLES), benchmark.student(1, SAMPLES)
        paired = lead(one, other, 0.95)
        apart = 2 * z * ((one.rates[0].var(ddof=1) + other.rates[0].var(ddof=1)) / questions) ** 0.5
        ratios.append((paired.high - paired.low) / apart)
    return float(np.mean(ratios))


def expected_widths(questions: int, samples: int, trials: int) -> dict[str, float]:
    """Half-widths in points, as `plan` expects them of questions like these and as the intervals have them (root mean
    square): of a score and of a paired difference."""
    rng = np.random.default_rng([questions, samples])
    logits = 0.65 + rng.normal(0, DIFFICULTY, (200_000, 1)) + rng.normal(0, INTERACTION, (200_000, 2))
    one, other = (1 / (1 + np.exp(-logits))).T
    mean = float(one.mean())
    spread = Spread(mean, float(one.var() / (mean * (1 - mean))), float(np.corrcoef(one, other)[0, 1]))
    made: dict[str, list[float]] = {"score": [], "difference": []}
    for _ in range(trials):
        benchmark = Benchmark(World((0.65, 0.65)), questions, rng)
        one_student, other_student = (benchmark.student(i, samples) for i in range(2))
        for name, found in (
            ("score", mean_interval(one_student.rates[0][0], samples, 0.95)),
            ("difference", lead(one_student, other_student, 0.95)),
        ):
            made[name].append((found.high - found.low) / 2)
    return {
        f"{name} {which}": round(100 * width, 2)
        for name, widths in made.items()
        for which, width in (
            ("expected", half_width(questions, samples, 0.95, paired=name == "difference", spread=spread)),
            ("made", float(np.mean(np.square(widths)) ** 0.5)),
        )
    }


def procedure(
    world: World, trials: int, *, rounds: int, growth: int = 3, questions: int = 102, seeds: int = 1
) -> dict[str, float]:
    """What becomes of the candidates.

    `best_left`: the best candidate left, or lost; with equal ones: any left. `missed`: some interval missed its
    difference. `wrong_winner`: another than the best was called clear. `cost`: students times their share of the
    budget, over all candidates in full.
    """
    truth, number = world.truth(), len(world.skills)
    best = {i for i in range(number) if truth[i] == truth.max()}
    rng = np.random.default_rng([number, rounds, seeds, int(1e4 * (truth.max() - truth.min()))])
    tally = dict.fromkeys(("best_left", "missed", "right_winner", "wrong_winner", "tie", "cost"), 0.0)
    for _ in range(trials):
        benchmark = Benchmark(world, questions, rng)
        left, missed, cost, outcome = list(range(number)), False, 0.0, "tie"
        for at in range(1, rounds + 1):
            share = growth ** float(at - rounds)
            cost += share * len(left)
            students = [benchmark.student(i, max(1, round(SAMPLES * share)), seeds) for i in left]
            leader, behind = leads(students, pair_confidence(0.95, number, at, rounds, growth))
            first = int(leader.candidate)
            for name, estimate in behind.items():
                missed |= not estimate.low <= truth[first] - truth[int(name)] <= estimate.high
            left = [i for i in left if i == first or behind[str(i)].low <= 0]
            if len(left) == 1:
                outcome = "right_winner" if first in best else "wrong_winner"
                break
        tally[outcome] += 1
        tally["best_left"] += not best <= set(left)
        tally["missed"] += missed
        tally["cost"] += cost / number
    return {name: round(value / trials, 4) for name, value in tally.items()}


WORLDS = {
    "four equal": World((0.5,) * 4),
    "one ahead by 2 points, three equal": World((0.61, 0.5, 0.5, 0.5)),
    "two ahead and equal, two far behind": World((0.5, 0.5, -1.0, -1.5)),
    "one far ahead of three": World((1.5, 0.5, 0.0, -1.0)),
    "as the embedded models: one far ahead of two": World((2.0, -0.5, -2.5)),
}


def measure(trials: int) -> dict[str, object]:
    """Every figure."""
    noisy = World((0.5,) * 4, seed_spread=0.1)
    return {
        "trials": trials,
        "coverage_95": {
            f"{questions} questions, {seeds} seeds": coverage(questions, seeds, 0.1 if seeds > 1 else 0.0, trials)
            for questions, seeds in ((10, 1), (30, 1), (102, 1), (300, 1), (102, 2), (102, 3), (102, 5))
        },
        "coverage_95_with_seed_noise_that_one_seed_cannot_see": coverage(102, 1, 0.1, trials),
        "coverage_of_a_corrected_interval_0.9972": coverage(102, 1, 0.0, trials, 0.9972),
        "paired_over_unpaired_width": {q: round(widths(q, max(100, trials // 10)), 3) for q in (30, 102, 300)},
        "expected_half_widths": {
            questions: {
                name: [round(100 * half_width(questions, k, 0.95, paired=paired), 1) for k in (1, 4, 16, 64, math.inf)]
                for name, paired in (("score", False), ("difference", True))
            }
            for questions in (30, 60, 198, 500, 1319)
        },
        "half_widths": {
            f"{questions} questions, {samples} samples": expected_widths(questions, samples, max(50, trials // 20))
            for questions, samples in ((10, 16), (30, 1), (30, 16), (30, 64), (102, 8), (198, 8), (500, 4))
        },
        "procedure": {
            name: {f"{rounds} rounds": procedure(world, trials, rounds=rounds) for rounds in (1, 2, 3)}
            for name, world in WORLDS.items()
        },
        "seed_noise_four_equal_2_rounds": {
            f"{seeds} seeds": procedure(noisy, trials, rounds=2, seeds=seeds) for seeds in (1, 3, 5)
        },
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.probe_statistics", description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args(argv)
    started = time.monotonic()
    found = measure(options.trials)
    found["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(found, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
