"""`kubedistill verify`: judge a file of responses on this machine."""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.verify.rows import Summary, verify_rows
from kubedistill_runtime.verify.types import VerifierUnavailable

EXIT_BAD_INPUT = 65
"""The stage contract's status for input that no second try will mend."""


def verify(
    input: Annotated[  # noqa: A002 - the option's name
        Path, typer.Option(help="JSONL rows {id, domain, response, gold | tests}.", exists=True, dir_okay=False)
    ],
    output: Annotated[Path, typer.Option(help="Where the verdicts go: {id, correct, method, seconds, error} per row.")],
    spec: Annotated[
        Path | None,
        typer.Option(help="YAML or JSON as in spec.curation.verification of a job.", exists=True, dir_okay=False),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Verdicts at a time. Default: one per core.", min=1)] = None,
) -> None:
    """Judge responses: math answers against gold answers, programs against tests."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    try:
        rules = VerificationSpec.model_validate(yaml.safe_load(spec.read_text()) or {}) if spec else VerificationSpec()
        with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
            task = bar.add_task("verifying")
            summary = verify_rows(
                input, output, rules, workers, lambda now: bar.update(task, description=describe(now))
            )
    except (ValidationError, ValueError, yaml.YAMLError, OSError, VerifierUnavailable) as error:
        typer.echo(f"verify: {error}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from error
    typer.echo(describe(summary))


def describe(summary: Summary) -> str:
    """One line for a person."""
    rate = summary.rows / summary.seconds if summary.seconds else 0.0
    return (
        f"{summary.rows} rows: {summary.correct} correct, {summary.rows - summary.correct} not, "
        f"{summary.errors} with errors, {rate:.0f} per second"
    )
