"""`make bench`: every benchmark of this machine, as one JSON object, compared with the committed baselines.

A baseline is a ratio against a peer or a raw loop that was measured in the same run; `at_least` is what the ratio must
not fall below, with room for a noisy machine. Exits with 1 when one does, or when a benchmark fails; the others run all
the same.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

BASELINES = Path(__file__).with_name("baselines.json")
BENCHMARKS = ("sampling", "train_cpu", "diversity")


class BenchmarkFailed(RuntimeError):
    """A benchmark ended without a result."""


def measure(name: str) -> dict:
    """Runs one benchmark in a process of its own; its last line is its result. Raises BenchmarkFailed."""
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", "--json"]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise BenchmarkFailed(f"exit code {run.returncode}; its errors are above")
    try:
        result = json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise BenchmarkFailed(f"no JSON on its last line: {run.stdout[-200:]!r}") from None
    if not isinstance(result, dict):
        raise BenchmarkFailed(f"its last line is no JSON object: {run.stdout[-200:]!r}")
    return result


def compared(name: str, result: dict, baselines: dict) -> list[str]:
    """What fell below its baseline, or is missing, in words."""
    fell = []
    for figure, baseline in baselines.items():
        value = result.get(figure)
        print(f"   {figure}: {value} (baseline {baseline['measured']})", file=sys.stderr, flush=True)
        if value is None:
            fell.append(f"{name}.{figure} is missing, at least {baseline['at_least']} was expected")
        elif not value >= baseline["at_least"]:  # NaN is below everything
            fell.append(f"{name}.{figure} is {value}, at least {baseline['at_least']} was expected")
    return fell


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; all without")
    names = parser.parse_args(argv).names or BENCHMARKS
    baselines = json.loads(BASELINES.read_text())
    results: dict[str, dict] = {}
    failed: dict[str, str] = {}
    fell: list[str] = []
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        try:
            results[name] = measure(name)
        except BenchmarkFailed as error:
            failed[name] = str(error)
            print(f"   failed: {error}", file=sys.stderr, flush=True)
        else:
            fell += compared(name, results[name], baselines.get(name, {}))
    print(json.dumps({"results": results, "fell": fell, "failed": failed}, indent=1))
    return 1 if fell or failed else 0


if __name__ == "__main__":
    sys.exit(main())
