"""`kubedistill validate` and the examples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
BAD = """\
apiVersion: kubedistill.io/v1alpha1
kind: DistillationJob
metadata: {name: small}
spec:
  questions: [{uri: q.jsonl}]
  student: {uri: s}
  teacher: {model: {uri: t}}
  training: {epochs: 0, lr: 1}
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(kubedistill: Call, path: Path) -> None:
    ran = kubedistill("validate", path)
    assert ran.code == 0, ran.err
    assert "OK" in ran.out


def test_every_error_of_every_file_is_shown(kubedistill: Call, tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(BAD)
    second.write_text("a: b: c")
    ran = kubedistill("validate", first, EXAMPLES[0], second)
    assert ran.code == 65
    assert f"{first}:8: spec.training.epochs: 0 is out of range" in ran.err
    assert f"{first}:8: spec.training.lr: unknown field" in ran.err
    assert f"{second}:1: not YAML" in ran.err
    assert "3 errors in 2 files" in ran.err
    assert f"{EXAMPLES[0]}: OK" in ran.out


def test_standard_input_is_read(kubedistill: Call) -> None:
    assert kubedistill("validate", "-", stdin=BAD).code == 65
    assert kubedistill("validate", "-", stdin=EXAMPLES[0].read_text()).code == 0


def test_a_missing_file_is_an_error(kubedistill: Call, tmp_path: Path) -> None:
    ran = kubedistill("validate", tmp_path / "no.yaml")
    assert ran.code == 65
    assert "no such file" in ran.err
