"""How often does a probe name the right teacher? Real probes on the embedded models, each with seeds of its own.

    python -m tests.benchmarks.probe_repeats --runs 20 --at-once 2 --root probes
    python -m tests.benchmarks.probe_repeats --runs 5 --draws 5      # with `redraw`: each probe of five draws

A run draws the questions of its first round, the traces, the order of training and the answers anew. The right teacher
is known: `careless` makes the best student, by 24 points where all are compared in full. Prints a line a run, and then
how many were right, wrong and undecided, what error rate that rules out, how far the leads vary from run to run against
the intervals that a run gives them, and the tokens against those of all candidates in full (`rounds: 1` and one draw,
the first `--full` runs). Runs that are there in `--root` are not run again. Engines start on one core, so that on two
cores two runs at once are nearly twice as fast.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import comb
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

EXAMPLE = Path(__file__).parents[2] / "examples" / "probe.yaml"
RIGHT = "careless"
TOKENS = ("completionTokens", "trainingTokens")


def manifest(name: str, seed: int, rounds: int, draws: int) -> dict[str, Any]:
    """The example with every seed changed; the draws of one probe are none of another's."""
    made = yaml.safe_load(EXAMPLE.read_text())
    made["metadata"]["name"] = f"probe-{name}"
    spec = made["spec"]
    spec["procedure"]["rounds"] = rounds
    first = seed if draws == 1 else 1000 * seed
    spec["sampling"]["seed"] = spec["training"]["seed"] = spec["evaluation"]["seed"] = first
    if draws > 1:
        spec["procedure"] |= {"redraw": True, "seeds": list(range(first, first + draws))}
    return made


def run(name: str, root: Path, seed: int, rounds: int, draws: int) -> dict[str, Any]:
    """The final status of one probe."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    done, file = folder / "status.json", folder / "probe.yaml"
    if not done.exists():
        file.write_text(yaml.safe_dump(manifest(name, seed, rounds, draws)))
        command = [Path(sys.executable).with_name("kubedistill"), "run", file, "--root", folder, "--json"]
        status = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        done.write_text(status)
    return json.loads(done.read_text())  # type: ignore[no-any-return]


def ruled_out(errors: int, runs: int, confidence: float = 0.95) -> float:
    """The upper end of Clopper and Pearson's one-sided interval: the rate at which so few errors are that unlikely."""
    low, high = errors / runs, 1.0
    for _ in range(50):
        rate = (low + high) / 2
        as_few = sum(comb(runs, n) * rate**n * (1 - rate) ** (runs - n) for n in range(errors + 1))
        low, high = (rate, high) if as_few > 1 - confidence else (low, rate)
    return high


def told(name: str, status: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run."""
    return {
        "run": name,
        "outcome": status["outcome"]["outcome"],
        "winner": status.get("winner"),
        "round": status["outcome"]["round"],
        "reason": status["outcome"]["reason"],
        "leads": {one["candidate"]: (one["behind"], *one["behindCi"]) for one in status["standings"][1:]},
        **{tokens: status["usage"][tokens] for tokens in TOKENS},
    }


def runs(count: int, rounds: int, root: Path, at_once: int, draws: int = 1) -> list[dict[str, Any]]:
    def one(seed: int) -> dict[str, Any]:
        name = f"{seed}-{rounds}" if draws == 1 else f"{seed}-{rounds}-{draws}"
        ended = told(name, run(name, root, seed, rounds, draws))
        print(json.dumps(ended), file=sys.stderr, flush=True)
        return ended

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, range(1, count + 1)))


def spread(leads: list[tuple[float, float, float]]) -> dict[str, float]:
    """How one lead varies over the runs, against its interval in each. Runs differ in traces, training and answers and
    share the benchmark's questions; an interval allows for other questions and answers, and for other traces only where
    they are drawn several times."""
    middle = mean(lead for lead, _, _ in leads)
    return {
        "mean": round(middle, 3),
        "sd": round(stdev(lead for lead, _, _ in leads), 3),
        "half_width": round(mean(high - low for _, low, high in leads) / 2, 3),
        "intervals_with_the_mean": round(mean(low <= middle <= high for _, low, high in leads), 3),
    }


def summary(probes: list[dict[str, Any]], full: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts, and means of tokens; an error is a clear outcome with another leader than the right one."""
    clear = [one for one in probes if one["outcome"] == "clear"]
    right = [one for one in clear if one["winner"] == RIGHT]
    errors = len(clear) - len(right)
    figures: dict[str, Any] = {
        "runs": len(probes),
        "right": len(right),
        "wrong": errors,
        "ties": len(probes) - len(clear),
        "in_the_first_round": sum(one["round"] == 1 for one in clear),
        "error_rate_below": round(ruled_out(errors, len(probes)), 3),
    }
    if len(right) > 1:
        figures["leads"] = {name: spread([one["leads"][name] for one in right]) for name in right[0]["leads"]}
    for tokens in TOKENS if full else ():
        figures[tokens] = round(mean(one[tokens] for one in probes))
        figures[f"{tokens}_in_full"] = round(mean(one[tokens] for one in full))
        figures[f"{tokens}_share"] = round(figures[tokens] / figures[f"{tokens}_in_full"], 3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.probe_repeats", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--full", type=int, default=2, help="runs of all candidates in full")
    parser.add_argument("--draws", type=int, default=1, help="draws of questions and traces in each run")
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side")
    parser.add_argument("--root", type=Path, default=Path("build/probes"))
    chosen = parser.parse_args()
    full = runs(chosen.full, 1, chosen.root, chosen.at_once)
    probes = runs(chosen.runs, 2, chosen.root, chosen.at_once, chosen.draws)
    print(json.dumps(summary(probes, full), indent=1))


if __name__ == "__main__":
    main()
