"""`kubedistill verify`: verdicts for responses from anywhere."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data.storage import disk_error
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.verify.rows import Summary, verify_rows
from kubedistill_runtime.verify.types import VerifierUnavailable


def verify_command(
    input: Annotated[  # noqa: A002 - the option's name
        Path, typer.Option("--input", "-i", help="Rows to judge, JSONL.", exists=True, dir_okay=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the verdicts go, JSONL.", dir_okay=False)],
    workers: Annotated[int | None, typer.Option(help="Verdicts at a time. Default: one for each core.", min=1)] = None,
    spec: Annotated[
        Path | None,
        typer.Option(
            help="YAML with the fields of a job's spec.curation.verification; needed for a judge model.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    timeout_seconds: Annotated[
        float | None, typer.Option(help="CPU seconds of one math comparison. Default: the spec's, or 10.")
    ] = None,
    cpu_seconds: Annotated[
        float | None, typer.Option(help="CPU seconds of one test of a program. Default: the spec's, or 6.")
    ] = None,
    wall_seconds: Annotated[float | None, typer.Option(help="Seconds of wall clock of one test of a program.")] = None,
    memory_mib: Annotated[int | None, typer.Option(help="MiB of memory of a program.")] = None,
) -> None:
    """Judge responses: math answers and chosen letters against gold answers, programs against tests.

    Each row of the input is one response; each row of the output its verdict, in the same order. A row that cannot be
    judged gets a verdict with an error and stops no other. Programs run in a sandbox.

    [bold]Rows[/bold]

      {"id": "a", "domain": "math", "response": "So \\\\boxed{4}.", "gold": "4"}
      {"id": "b", "domain": "choice", "response": "Answer: (B)", "gold": "B"}
      {"id": "c", "domain": "code", "response": "```python ...",
       "tests": {"inputs": ["1"], "outputs": ["2"]}}    (on one line)

    [bold]Verdicts[/bold]

      {"id": "a", "correct": true, "method": "string", "seconds": 0.001, ...}

    [bold]Examples[/bold]

      kubedistill verify -i responses.jsonl -o verdicts.jsonl
      kubedistill verify -i programs.jsonl -o verdicts.jsonl --cpu-seconds 10

    [bold]Exit codes[/bold]: 0 every row has its verdict; 65 a file, an option or the judge's key or model is wrong; 75
    the disk is full, or the judge does not answer.
    """
    limits = {"cpuSeconds": cpu_seconds, "wallSeconds": wall_seconds, "memoryMib": memory_mib}
    rules = _rules(spec, {"timeoutSeconds": timeout_seconds}, limits)
    try:
        total = _count(input)
        bar = Progress(
            TextColumn("verifying"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[found]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        with bar:
            task = bar.add_task("", total=total, found="")

            def show(summary: Summary) -> None:
                found = f"{summary.correct} correct, {summary.errors} errors"
                bar.update(task, completed=summary.rows, found=found)

            summary = verify_rows(input, output, rules, workers, show)
    except (VerifierUnavailable, ValueError) as error:
        raise BadInput(str(error)) from None
    except OSError as error:
        mapped = disk_error(error, output)
        raise mapped if isinstance(mapped, TryAgain) else BadInput(str(error)) from None
    typer.echo(described(summary))


def described(summary: Summary) -> str:
    """One line for a person."""
    share = f" ({summary.correct / summary.rows:.1%})" if summary.rows else ""
    rate = f", {summary.rows / summary.seconds:.0f} per second" if summary.seconds else ""
    return f"{summary.rows} rows: {summary.correct} correct{share}, {summary.errors} with errors{rate}"


def _rules(path: Path | None, values: dict[str, Any], limits: dict[str, Any]) -> VerificationSpec:
    try:
        data = yaml.safe_load(path.read_text()) if path else None
        if not isinstance(data, dict | None):
            raise BadInput(f"--spec {path}: must hold fields, for example 'timeoutSeconds: 20'")
        data = {**(data or {}), **{name: value for name, value in values.items() if value is not None}}
        given = {name: value for name, value in limits.items() if value is not None}
        if given:
            data["codeLimits"] = {**(data.get("codeLimits") or {}), **given}
        return VerificationSpec.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadInput(f"verification rules: {problems}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"--spec {path}: {error}") from None


def _count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())
