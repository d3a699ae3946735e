"""`kubedistill status`: the jobs and probes that were run on this machine."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from kubedistill_api.status import DONE, JobStatus, StageStatus
from kubedistill_runtime.cli.live import console_of, remark
from kubedistill_runtime.cli.summary import percent, print_summary
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.local.workspace import DEFAULT_ROOT, JobFolder, workspaces


def status(root: Path = DEFAULT_ROOT, name: str | None = None, *, color: bool = True, as_json: bool = False) -> None:
    """Prints the jobs below `root`, or the ones of a name. Raises BadInput where there is none of that name."""
    console = console_of(color=color)
    folders = [folder for workspace in workspaces(root) for folder in workspace.jobs()]
    found = [(folder, state) for folder in folders if name in (None, folder.name) and (state := folder.read_status())]
    if not found and name is not None:
        known = ", ".join(sorted({folder.name for folder in folders})) or "none"
        raise BadInput(f"no job or probe {name} in {root} (there: {known})")
    if as_json:
        items = [_as_data(folder, state) for folder, state in found]
        print(json.dumps(items, indent=1))
    elif name is not None:
        for folder, state in found:
            print_summary(console, f"{folder.kind} {folder.namespace}/{folder.name}", state)
            if is_abandoned(folder, state):
                console.print("no run is at it: run its manifest again to go on")
    elif found:
        console.print(_table(found))
    if not found and not as_json:
        console.print(f"no jobs in {root}", markup=False, highlight=False)


def is_abandoned(folder: JobFolder, state: JobStatus) -> bool:
    """Whether the status says that it runs, but no `kubedistill run` is there to do it."""
    return state.phase in ("Pending", "Running") and not folder.lock().is_held()


def _as_data(folder: JobFolder, state: JobStatus) -> dict[str, object]:
    return {
        "kind": folder.kind,
        "metadata": {"name": folder.name, "namespace": folder.namespace},
        "status": state.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def _table(found: Sequence[tuple[JobFolder, JobStatus]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for heading in ("namespace", "kind", "name", "phase", "stages", "stage", "score"):
        table.add_column(heading, no_wrap=heading != "stage")
    for folder, state in found:
        phase = "Interrupted" if is_abandoned(folder, state) else state.phase
        done = sum(stage.state in DONE for stage in state.stages)
        current = _current(state.stages)
        stage = " ".join(filter(None, (current.name, remark(current)))) if current else ""
        student = next((score for score in state.scores if score.model == "student"), None)
        score = f"{student.benchmark} {percent(student.mean, student.ci)}" if student else ""
        table.add_row(folder.namespace, folder.kind, folder.name, phase, f"{done}/{len(state.stages)}", stage, score)
    return table


def _current(stages: Sequence[StageStatus]) -> StageStatus | None:
    """The stage to look at: the failed one, the running one, the next one."""
    for state in ("Failed", "Running", "Starting", "Waiting"):
        for stage in stages:
            if stage.state == state:
                return stage
    return None


def status_command(
    name: Annotated[str | None, typer.Argument(help="Name of a job or probe. Default: list all.")] = None,
    root: Annotated[Path, typer.Option(help="Folder that `kubedistill run` was given.")] = DEFAULT_ROOT,
    no_color: Annotated[bool, typer.Option("--no-color", help="Plain text.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how far the jobs and probes of this machine are, and what came out.

    A failed job is shown with its reason, like any other; `kubedistill run` is what ends with the code of the failure.

    Exit codes: 0 shown, whatever the state; 2 wrong usage; 65 no job or probe of this name.
    """
    status(root, name, color=not no_color, as_json=as_json)
