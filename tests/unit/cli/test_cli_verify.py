"""`kubedistill verify`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubedistill_runtime.cli.verify import described
from kubedistill_runtime.verify.rows import Summary

Call = Callable[..., Any]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    good = [
        {"id": "a", "domain": "math", "response": "<think>\nx\n</think>\n\\boxed{4}", "gold": "4"},
        {"id": "b", "domain": "math", "response": "\\boxed{5}", "gold": "4"},
    ]
    path.write_text("\n".join([json.dumps(good[0]), "broken", json.dumps(good[1])]) + "\n")
    return path


def test_each_row_gets_its_verdict_and_a_bad_one_stops_no_other(kubedistill: Call, rows: Path, tmp_path: Path) -> None:
    output = tmp_path / "verdicts.jsonl"
    ran = kubedistill("verify", "--input", rows, "--output", output, "--workers", 1)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("3 rows: 1 correct (33.3%), 1 with errors")
    verdicts = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(v["id"], v["correct"]) for v in verdicts] == [("a", True), (None, False), ("b", False)]
    assert "line 2: not JSON" in verdicts[1]["error"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cpu-seconds", "-1"], "codeLimits.cpuSeconds: "),
        (["--memory-mib", "1"], "codeLimits.memoryMib: "),
        (["--spec", "SPEC"], "judges: "),
    ],
)
def test_a_wrong_rule_is_named(kubedistill: Call, rows: Path, tmp_path: Path, options: list[str], message: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("judges: {}\n")
    options = [str(spec) if option == "SPEC" else option for option in options]
    ran = kubedistill("verify", "-i", rows, "-o", tmp_path / "out", *options)
    assert ran.code == 65
    assert message in ran.err
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_the_users_mistake(kubedistill: Call, rows: Path, tmp_path: Path) -> None:
    ran = kubedistill("verify", "-i", rows, "-o", tmp_path / "no" / "such" / "folder.jsonl")
    assert ran.code == 65
    assert "No such file" in ran.err


def test_a_missing_input_is_wrong_usage(kubedistill: Call, tmp_path: Path) -> None:
    assert kubedistill("verify", "-i", tmp_path / "no.jsonl", "-o", tmp_path / "out").code == 2


def test_no_rows_have_no_share() -> None:
    assert described(Summary()) == "0 rows: 0 correct, 0 with errors"
