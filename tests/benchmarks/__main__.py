"""`make bench`: every benchmark of this machine, as one JSON object, compared with the committed baselines.

A baseline is a ratio against a peer or a raw loop that was measured in the same run; `at_least` is what the ratio must
not fall below, with room for a noisy machine. Exits with 1 when one does.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

BASELINES = Path(__file__).with_name("baselines.json")
BENCHMARKS = ("sampling", "train_cpu", "diversity")


def measure(name: str) -> dict:
    """Runs one benchmark in a process of its own; its last line is its result."""
    run = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; all without")
    names = parser.parse_args(argv).names or BENCHMARKS
    baselines = json.loads(BASELINES.read_text())
    results, fell = {}, []
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        results[name] = measure(name)
        for figure, baseline in baselines[name].items():
            value = results[name][figure]
            print(f"   {figure}: {value} (baseline {baseline['measured']})", file=sys.stderr, flush=True)
            if value < baseline["at_least"]:
                fell.append(f"{name}.{figure} is {value}, at least {baseline['at_least']} was expected")
    print(json.dumps({"results": results, "fell": fell}, indent=1))
    return 1 if fell else 0


if __name__ == "__main__":
    sys.exit(main())
