"""Runs the tests of one code item, one fresh process per test, and stops at the first that fails."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kubedistill_runtime.verify.code import Language, same_output, same_value
from kubedistill_runtime.verify.isolation import python_command
from kubedistill_runtime.verify.jail import Limits
from kubedistill_runtime.verify.sandbox import Sandbox
from kubedistill_runtime.verify.watch import Run

BUILD_LIMITS = Limits(cpu_seconds=30, memory_mib=2048, file_mib=256, processes=64, output_mib=8, wall_seconds=120)
"""For the C++ compiler. <bits/stdc++.h> takes it about two seconds and 300 MiB."""

_COMPILERS = ("g++", "clang++", "c++")


@dataclass(frozen=True)
class CodeTask:
    """One program and its tests, as a worker gets them. inputs and outputs as in the API's CodeTests."""

    language: Language
    source: str
    inputs: Sequence[object]
    outputs: Sequence[object]
    fn_name: str | None
    limits: Limits


@dataclass(frozen=True)
class CodeResult:
    """Whether every test passed; CPU seconds of all runs, compiling included; what went wrong first."""

    correct: bool
    seconds: float
    error: str | None


def run_tests(sandbox: Sandbox, task: CodeTask) -> CodeResult:
    """Run a task's tests in order. Raises OSError or SubprocessError where the jail cannot be entered."""
    try:
        return _run_tests(sandbox, task)
    finally:
        sandbox.clear()


def _run_tests(sandbox: Sandbox, task: CodeTask) -> CodeResult:
    spent = 0.0
    if task.language == "python":
        source = sandbox.program / "solution.py"
        source.write_text(task.source, encoding="utf-8", errors="replace")
        kind, name = ("program", "-") if task.fn_name is None else ("function", task.fn_name)
        command = python_command(kind, source, name)
    else:
        if task.fn_name is not None:
            return CodeResult(False, 0.0, f"tests call {task.fn_name}: only Python functions can be called")
        built = _build(sandbox, task.source)
        if isinstance(built, str):
            return CodeResult(False, 0.0, built)
        if built.failure:
            return CodeResult(False, built.cpu, f"compiling: {built.failure}{_first_error(built)}")
        spent, command = built.cpu, [str(sandbox.program / "solution")]
    given = sandbox.program / "input"
    for number, (test_input, expected) in enumerate(zip(task.inputs, task.outputs, strict=True), start=1):
        text = test_input if isinstance(test_input, str) and task.fn_name is None else json.dumps(test_input)
        given.write_text(text, encoding="utf-8", errors="replace")
        given.chmod(0o644)
        run = sandbox.run(command, task.limits, given)
        spent += run.cpu
        if error := run.failure or _difference(run, expected, task.fn_name):
            return CodeResult(False, spent, f"test {number} of {len(task.inputs)}: {error}")
    return CodeResult(True, spent, None)


def _difference(run: Run, expected: object, fn_name: str | None) -> str | None:
    if fn_name is None:
        return None if same_output(str(expected), run.stdout.decode(errors="replace")) else "wrong output"
    try:
        value = json.loads(run.result)
    except ValueError:
        return "the function returned nothing"
    except RecursionError:
        return "the function returned a value nested too deep"
    return None if same_value(expected, value) else "wrong value"


def _build(sandbox: Sandbox, source: str) -> Run | str:
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        return f"no C++ compiler: install one of {', '.join(_COMPILERS)} in the image that verifies"
    path = sandbox.program / "solution.cpp"
    path.write_text(source, encoding="utf-8", errors="replace")
    binary = sandbox.program / "solution"
    run = sandbox.run([compiler, "-std=gnu++20", "-O2", "-o", str(binary), str(path)], BUILD_LIMITS, building=True)
    return run if run.failure or binary.is_file() else replace(run, exit=1)


def _first_error(run: Run) -> str:
    errors = (line for line in run.stderr.splitlines() if "error" in line)
    return f" ({next(errors, '').split('solution.cpp:')[-1][:200]})"
