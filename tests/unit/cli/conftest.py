"""The command as the shell would call it, and a job that it can look at."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kubedistill_runtime.cli import app
from tests.unit.cli.jobs_on_disk import JobOnDisk


@dataclass
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def kubedistill(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Calls the command as the shell would."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object, stdin: str | None = None) -> Ran:
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def job(root: Path) -> JobOnDisk:
    return JobOnDisk(root)
