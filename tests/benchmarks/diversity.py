"""Choosing the farthest 4 of 16 traces per question: kubedistill against all pairs in full with rapidfuzz.

    python -m tests.benchmarks.diversity --json
    python -m tests.benchmarks.diversity --json --questions 1000 --baseline-questions 50

Both sides run on the same questions, in turn, in one process and one thread; the results must be the same. Seconds are
of CPU, so that neighbours on the machine disturb less. The baseline is what one would write with rapidfuzz:
`Levenshtein.distance` on the arrays of token ids (as fast as lists) for all pairs, then the best subset of the matrix.
Where it would take hours, it runs on the first questions only and the ratio is that of the seconds on these.

The traces are synthetic. A question has a vocabulary of its own beside the frequent tokens of the language, and a
storyline: phrases that may come up at each step. A trace walks along the storyline, takes some of its phrases, changes
a tenth of their tokens, and fills up with text of its own. How much it takes sets how far apart siblings are:

- `unrelated`: nothing shared but the vocabulary.
- `siblings`: normalised distances of 0.65 to 0.8, as are usual for traces of one question at temperature 0.6.
- `level`: siblings of nearly equal length. Lengths tell nothing and all distances are alike: the hardest to rule out.
- `close`: a low temperature, the storyline is the same.
"""

import argparse
import json
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from kubedistill_runtime.curate.diversity import farthest
from kubedistill_runtime.curate.types import Selection

VOCABULARY = 150_000
STEPS = 80
MEAN_PHRASE = 18


@dataclass(frozen=True)
class Regime:
    """How alike the traces of one question are."""

    name: str
    shared: float
    """Share of phrases taken from the storyline."""
    choices: int
    """Phrases to take from at each step."""
    spread: float
    """Standard deviation of the logarithm of the length."""


REGIMES = (
    Regime("unrelated", shared=0.0, choices=1, spread=0.25),
    Regime("siblings", shared=0.85, choices=3, spread=0.25),
    Regime("level", shared=0.85, choices=3, spread=0.03),
    Regime("close", shared=1.0, choices=1, spread=0.1),
)


class Zipf:
    """Draws of token ids with frequencies 1, 1/2^s, 1/3^s, ..."""

    def __init__(self, ids: NDArray[np.int64], exponent: float):
        self._ids = ids
        self._cumulative = np.cumsum(1 / np.arange(1, len(ids) + 1) ** exponent)

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        return self._ids[np.searchsorted(self._cumulative, rng.random(n) * self._cumulative[-1])]


def question(seed: int, regime: Regime, traces: int, tokens: int) -> list["array[int]"]:
    """Token ids of the traces of one question; `tokens` is the median length."""
    language = np.random.default_rng(0).permutation(VOCABULARY)
    rng = np.random.default_rng([seed, *regime.name.encode()])
    frequent = Zipf(language[:300], 1.1)
    own = Zipf(rng.choice(language[:20_000], 1200, replace=False), 1.0)

    def text(n: int) -> NDArray[np.int64]:
        return np.where(rng.random(n) < 0.75, frequent.draw(rng, n), own.draw(rng, n))

    def phrases(n: int) -> list[NDArray[np.int64]]:
        lengths = rng.integers(4, 2 * MEAN_PHRASE - 3, n)
        return np.split(text(int(lengths.sum())), np.cumsum(lengths)[:-1])

    story = phrases(STEPS * 4 * regime.choices)
    result = []
    for _ in range(traces):
        length = int(tokens * np.exp(rng.normal(0, regime.spread)))
        slots = length // MEAN_PHRASE
        step = np.arange(slots) * STEPS * 4 // max(slots, 1)
        taken = step * regime.choices + rng.integers(0, regime.choices, slots)
        fill = phrases(max(slots, 1))
        parts = [
            story[taken[k]] if k_shared else fill[k] for k, k_shared in enumerate(rng.random(slots) < regime.shared)
        ]
        trace = np.concatenate([*parts, fill[0]])[: max(length, 1)]
        changed = rng.random(len(trace)) < 0.1
        trace[changed] = text(int(changed.sum()))
        result.append(array("I", trace.tolist()))
    return result


def all_pairs(traces: Sequence[Sequence[int]], count: int) -> tuple[Selection, list[float]]:
    """The baseline: every normalised distance in full, then the best subset by (minimum, sum). Also the distances."""
    n = len(traces)
    matrix = np.zeros((n, n))
    for i, j in combinations(range(n), 2):
        matrix[i, j] = Levenshtein.distance(traces[i], traces[j]) / max(len(traces[i]), len(traces[j]))
    best = max(
        combinations(range(n), count),
        key=lambda members: (
            (d := sorted(float(matrix[pair]) for pair in combinations(members, 2)))[0],
            sum(d),
            [-member for member in members],
        ),
    )
    distances = sorted(float(matrix[pair]) for pair in combinations(best, 2))
    every = [float(matrix[pair]) for pair in combinations(range(n), 2)]
    return Selection(best, True, distances[0], sum(distances) / len(distances), len(every)), every


@dataclass(frozen=True)
class Case:
    """One regime's result. Seconds are of CPU; distances are normalised."""

    regime: str
    questions: int
    baseline_questions: int
    traces: int
    tokens: int
    distances: tuple[float, float, float]
    """Least, median and largest over the pairs of the baseline's questions."""
    seconds: float
    """All questions."""
    seconds_on_baseline_questions: float
    all_pairs_seconds: float
    ratio: float
    """all_pairs_seconds / seconds_on_baseline_questions"""
    measured: float
    """Pairs per question that were worked out in full."""


def measure(regime: Regime, questions: int, baseline_questions: int, traces: int, tokens: int, count: int) -> Case:
    """Run one regime; raises AssertionError where the results differ."""
    seconds = compared = baseline = 0.0
    measured = 0
    distances: list[float] = []
    for seed in range(questions):
        candidates = question(seed, regime, traces, tokens)
        start = time.process_time()
        ours = farthest(dict(enumerate(candidates)), count, normalised=True)
        took = time.process_time() - start
        seconds += took
        measured += ours.measured
        if seed < baseline_questions:
            start = time.process_time()
            theirs, every = all_pairs(candidates, count)
            baseline += time.process_time() - start
            compared += took
            distances += every
            same = (ours.chosen, ours.min_distance) == (theirs.chosen, theirs.min_distance)
            assert same, f"{regime.name} question {seed}: {ours} differs from {theirs}"
    least, median, largest = np.quantile(distances, [0, 0.5, 1])
    return Case(
        regime=regime.name,
        questions=questions,
        baseline_questions=baseline_questions,
        traces=traces,
        tokens=tokens,
        distances=(round(float(least), 3), round(float(median), 3), round(float(largest), 3)),
        seconds=round(seconds, 3),
        seconds_on_baseline_questions=round(compared, 3),
        all_pairs_seconds=round(baseline, 3),
        ratio=round(baseline / compared, 2),
        measured=round(measured / questions, 1),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table, and with --json one line of JSON at the end."""
    parser = argparse.ArgumentParser(description="farthest traces against all pairs in full")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--questions", type=int, default=6, help="per regime")
    parser.add_argument("--baseline-questions", type=int, default=None, help="of these, on the first so many; all")
    parser.add_argument("--traces", type=int, default=16, help="per question")
    parser.add_argument("--tokens", type=int, default=10_000, help="median length of a trace")
    parser.add_argument("--trajectories", type=int, default=4, help="traces to choose")
    parser.add_argument("--regimes", nargs="+", choices=[r.name for r in REGIMES], default=[r.name for r in REGIMES])
    args = parser.parse_args(argv)
    baseline_questions = min(args.questions, args.baseline_questions or args.questions)
    cases = []
    for regime in REGIMES:
        if regime.name in args.regimes:
            case = measure(regime, args.questions, baseline_questions, args.traces, args.tokens, args.trajectories)
            cases.append(case)
            print(
                f"{case.regime:10} distances {case.distances}  all pairs {case.all_pairs_seconds:8.2f} s  "
                f"ours {case.seconds_on_baseline_questions:7.2f} s  ratio {case.ratio:5.2f}  "
                f"measured {case.measured:5.1f} of {args.traces * (args.traces - 1) // 2} pairs",
                flush=True,
            )
    if args.json:
        ratios = [case.ratio for case in cases]
        print(json.dumps({"benchmark": "diversity", "ratio": min(ratios), "cases": [asdict(case) for case in cases]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
