"""Do intervals of several draws hold on real models? The students of `probe_repeats` stand for draws of one another.

    python -m tests.benchmarks.probe_draws --root build/probes

Each of those probes drew its traces anew, so any K of them are what a probe with `redraw` and K seeds draws; their
students are regrouped here, at random and without training or sampling anything again, and the intervals are the real
code's. Printed for each K:

- *called_clear*: how often two groups of the same teacher's students are told apart. That is always an error.
- *holds_the_mean*: how often the interval of a lead holds the mean lead of all probes. Those leads are on the same
  benchmark questions, for which the interval allows too, so that it should hold the mean more often than it promises.
- *half_width*: of those intervals, on average.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from kubedistill_runtime.evaluate.paired import Student, lead
from kubedistill_runtime.evaluate.rounds import leads
from kubedistill_runtime.evaluate.students import read_student
from tests.benchmarks.probe_repeats import RIGHT

DRAWS = (1, 2, 3, 5, 8)
CONFIDENCE = 0.95


def students(probe: Path) -> dict[str, Student]:
    """Of the first round, by candidate."""
    found = {}
    for standing in json.loads((probe / "status.json").read_text())["standings"]:
        name = standing["candidate"]
        (scores,) = (
            file
            for file in probe.glob("default/stages/evaluate-*/scores.json")
            if json.loads((file.parent / "result.json").read_text())["stage"] == f"evaluate-{name}-r1"
        )
        found[name], _ = read_student(name, [scores])
    return found


def together(name: str, drawn: list[Student]) -> Student:
    """One student of as many seeds as there are students; all of one benchmark."""
    return Student(name, (np.concatenate([student.rates[0] for student in drawn]),), drawn[0].samples)


def called_clear(drawn: list[Student], draws: int, trials: int, rng: np.random.Generator) -> float:
    """Share of trials in which two disjoint groups of one teacher's students are told apart."""
    errors = 0
    for _ in range(trials):
        picked = rng.choice(len(drawn), 2 * draws, replace=False)
        groups = [
            together(name, [drawn[n] for n in part]) for name, part in zip("ab", np.split(picked, 2), strict=True)
        ]
        _, behind = leads(groups, CONFIDENCE)
        errors += all(estimate.low > 0 for estimate in behind.values())
    return errors / trials


def holds_the_mean(
    ahead: list[Student], behind: list[Student], draws: int, trials: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Share of trials in which the interval of a lead holds the mean over all probes, and the mean half-width."""
    middle = np.mean([student.score for student in ahead]) - np.mean([student.score for student in behind])
    held, widths = 0, 0.0
    for _ in range(trials):
        picked = rng.choice(len(ahead), draws, replace=False)
        one, other = (together(side[0].candidate, [side[n] for n in picked]) for side in (ahead, behind))
        estimate = lead(one, other, CONFIDENCE)
        held += estimate.low <= middle <= estimate.high
        widths += (estimate.high - estimate.low) / 2
    return held / trials, widths / trials


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.probe_draws", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("build/probes"), help="where `probe_repeats` left its probes")
    parser.add_argument("--trials", type=int, default=2000)
    chosen = parser.parse_args()
    ended = [path.parent for path in sorted(chosen.root.glob("*-2/status.json"))]
    probes = [students(probe) for probe in ended if (probe / "default").exists()]
    print(f"{len(probes)} probes, {chosen.trials} trials, confidence {CONFIDENCE}")
    by_name = {name: [probe[name] for probe in probes] for name in probes[0]}
    for draws in (n for n in DRAWS if 2 * n <= len(probes)):
        rng = np.random.default_rng(draws)
        clear = {name: called_clear(drawn, draws, chosen.trials, rng) for name, drawn in by_name.items()}
        held = {
            name: holds_the_mean(by_name[RIGHT], drawn, draws, chosen.trials, rng)
            for name, drawn in by_name.items()
            if name != RIGHT
        }
        row = {"draws": draws, "called_clear": clear}
        row["holds_the_mean"] = {name: share for name, (share, _) in held.items()}
        row["half_width"] = {name: round(width, 4) for name, (_, width) in held.items()}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
