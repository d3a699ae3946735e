"""`kubedistill study`: the ladder of a method and its controls, on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from kubedistill_api.manifest import load
from kubedistill_api.study import DistillationStudy
from kubedistill_runtime.cli.run import run
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.local.runner import Settings
from kubedistill_runtime.local.workspace import DEFAULT_ROOT


def study_command(
    manifest: Annotated[
        Path, typer.Argument(metavar="FILE", help="YAML file with a DistillationStudy.", exists=True, dir_okay=False)
    ],
    root: Annotated[Path, typer.Option(help="Folder that keeps stages, results and states.")] = DEFAULT_ROOT,
    parallel: Annotated[int, typer.Option(min=1, help="Stages that may run at once; each may use every GPU.")] = 1,
    no_color: Annotated[bool, typer.Option("--no-color", help="Plain text.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the final status as JSON; the rest to stderr.")
    ] = False,
) -> None:
    """Find out which steps of the method help with your questions, your teacher and your student.

    A study takes one job and trains it in many variants, each with several seeds: the ladder of the DED paper (all →
    right → right-hard → right-hard-diverse) and the controls that tell what a step is worth (random, shortest or
    longest traces in place of diverse ones, as many optimizer steps, as many questions at random, ...). What variants
    have in common, above all the sampling, is done once. In the end every variant is compared with a reference,
    question by question, and the table says what this study could see and what it could not.

    Variants of your own are a name and some fields of the job; a grid gives fields several values:

      variants:
      - {name: long, like: right-hard-diverse, overrides: {training.epochs: 10}}
      grid: {training.learningRate: [1e-4, 3e-4]}

    [bold]Examples[/bold]

      kubedistill plan examples/study.yaml     [dim]what it will take[/dim]
      kubedistill study examples/study.yaml    [dim]do it; run again to go on[/dim]
      kubedistill report ladder --open         [dim]the table, and score against cost[/dim]

    [bold]Exit codes[/bold]: as those of [bold]run[/bold], which does the same.
    """
    if not any(isinstance(resource, DistillationStudy) for resource in load(manifest).resources):
        raise BadInput(
            f"{manifest}: holds no DistillationStudy; write `kind: DistillationStudy` with the job's fields under "
            "spec.job, or use kubedistill run"
        )
    settings = Settings(slots=parallel)
    raise typer.Exit(run(manifest, root, settings=settings, color=not no_color, quiet=quiet, as_json=as_json))
