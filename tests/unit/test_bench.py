"""`make bench`: one benchmark that fails costs no other its result."""

import json
import subprocess
from typing import Any

import pytest

from tests.benchmarks import __main__ as bench

GOOD = json.dumps({"ratio": 100.0})


def played(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **runs: tuple[int, str]) -> Any:
    """Exit code and JSON of a run in which each benchmark ends as told, by default well."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        name = command[2].rpartition(".")[2]
        code, out = runs.get(name, (0, f"noise\n{GOOD}\n"))
        return subprocess.CompletedProcess(command, code, stdout=out)

    monkeypatch.setattr(bench.subprocess, "run", run)
    code = bench.main([])
    return code, json.loads(capsys.readouterr().out)


def test_all_results_are_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = played(monkeypatch, capsys)
    assert code == 0
    assert told == {"results": {name: {"ratio": 100.0} for name in bench.BENCHMARKS}, "fell": [], "failed": {}}


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ((1, GOOD), "exit code 1"),
        ((-9, ""), "exit code -9"),
        ((0, ""), "no JSON"),
        ((0, "done"), "no JSON"),
        ((0, "3"), "no JSON object"),
    ],
)
def test_the_others_run_although_one_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ended: tuple[int, str], reason: str
) -> None:
    code, told = played(monkeypatch, capsys, sampling=ended)
    assert code == 1
    assert set(told["results"]) == set(bench.BENCHMARKS) - {"sampling"}
    assert reason in told["failed"]["sampling"]


@pytest.mark.parametrize("result", ['{"ratio": 0.01}', '{"ratio": NaN}', '{"other": 1}'])
def test_a_figure_below_its_baseline_or_missing_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], result: str
) -> None:
    code, told = played(monkeypatch, capsys, diversity=(0, result))
    assert code == 1
    assert len(told["fell"]) == 1
    assert told["fell"][0].startswith("diversity.ratio is ")


def test_every_benchmark_has_a_baseline() -> None:
    assert set(json.loads(bench.BASELINES.read_text())) == set(bench.BENCHMARKS)
