"""The command as a whole: help, start, exit codes."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from kubedistill_api import __version__
from kubedistill_runtime.cli import COMMANDS, flowing

Call = Callable[..., Any]
HEAVY = ("torch", "vllm", "ray", "datasets", "pyarrow", "pydantic", "transformers", "numpy")


def test_help_lists_every_command_and_every_exit_code(kubedistill: Call) -> None:
    ran = kubedistill("--help")
    assert ran.code == 0
    for word in (*COMMANDS, "65", "75", "130", "kubedistill plan job.yaml"):
        assert word in ran.out


def test_without_arguments_help_is_shown(kubedistill: Call) -> None:
    assert "Exit codes" in kubedistill().out


def test_the_version_is_printed(kubedistill: Call) -> None:
    assert kubedistill("--version").out == f"kubedistill {__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['kubedistill', '--help']\n"
        "from kubedistill_runtime.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("LOADED []\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(kubedistill: Call, command: str) -> None:
    ran = kubedistill(command, "--help")
    assert ran.code == 0
    assert "Exit codes" in ran.out


def test_a_misspelt_command_is_corrected(kubedistill: Call) -> None:
    ran = kubedistill("plam")
    assert ran.code == 2
    assert "Did you mean 'plan'?" in ran.err


def test_paragraphs_flow_and_indented_ones_stay() -> None:
    assert flowing("One\ntwo.\n\n  a  b\n  c  d\n") == "One two.\n\n  a  b\n  c  d"
