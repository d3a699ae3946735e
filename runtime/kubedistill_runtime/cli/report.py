"""`kubedistill report`: where the report of a job is."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from kubedistill_api.status import DONE
from kubedistill_runtime.cli.jobs import ROOT_HELP, TARGET_HELP, artifact, find_job
from kubedistill_runtime.errors import TryAgain
from kubedistill_runtime.local.workspace import DEFAULT_ROOT


def report_command(
    target: Annotated[str, typer.Argument(metavar="NAME|FILE", help=TARGET_HELP)],
    root: Annotated[Path, typer.Option(help=ROOT_HELP)] = DEFAULT_ROOT,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Where several have the name.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Print the path of a job's report, a single HTML page; with --open, show it in the browser.

    [bold]Examples[/bold]

      kubedistill report ded-math --open
      cp "$(kubedistill report job.yaml)" ~/public/

    [bold]Exit codes[/bold]: 0 there it is; 65 no such job; 75 the job is not that far yet.
    """
    job, status = find_job(target, root, namespace)
    for stage in status.stages:
        path = artifact(job, stage, "report") if stage.kind == "report" else None
        if path:
            print(path)
            if show:
                webbrowser.open(path.resolve().as_uri())
            return
    todo = next((stage for stage in status.stages if stage.state not in DONE), None)
    where = f"{todo.name} is {todo.state.lower()}" if todo else "it has no stage of that kind"
    raise TryAgain(f"{job.kind} {job.name} has no report yet: {where} (job: {status.phase}); run it to its end")
