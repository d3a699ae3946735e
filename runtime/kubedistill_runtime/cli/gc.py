"""`kubedistill gc`: stages that no job refers to any more, and the space that they take."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from kubedistill_runtime.cli.live import console_of
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.garbage.decide import Verdict, decide, spoken
from kubedistill_runtime.garbage.keep import WANTED, Records, of_cluster
from kubedistill_runtime.garbage.survey import STAGES, survey
from kubedistill_runtime.garbage.sweep import sweep
from kubedistill_runtime.local.runner import EXIT_FAILED
from kubedistill_runtime.local.workspace import DEFAULT_ROOT, Workspace

AGE = re.compile(r"(\d+)([smhdw])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass
class Place:
    """A namespace's folder, with the verdicts on its stages."""

    workspace: Workspace
    verdicts: list[Verdict]
    referrers: Callable[[], Mapping[str, str]]
    """As they are when it is called."""

    @property
    def namespace(self) -> str:
        return self.workspace.folder.name


def age(text: str) -> timedelta:
    """`30d` as a timedelta. Raises typer.BadParameter."""
    found = AGE.fullmatch(text)
    if not found:
        raise typer.BadParameter(f"{text!r} is no age; write a number and s, m, h, d or w, as 30d")
    try:
        return timedelta(**{UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is longer than anybody waits; write less") from None


def places(root: Path, older_than: timedelta, namespace: str | None, listed: Mapping[str, str] | None) -> list[Place]:
    """The namespaces below `root`. Raises BadInput where there is none, or where nothing says what is needed."""
    found = [path.parent for path in sorted(root.resolve().glob(f"{namespace or '*'}/{STAGES}")) if path.is_dir()]
    if not found:
        raise BadInput(f"--root {root}: no {namespace or 'NAMESPACE'}/{STAGES} in it; give the folder that has them")
    return [_place(Workspace(folder), older_than, listed) for folder in found]


def _place(workspace: Workspace, older_than: timedelta, listed: Mapping[str, str] | None) -> Place:
    if listed is None and not (workspace.folder / "jobs").is_dir():
        raise BadInput(
            f"{workspace.folder} has no records of jobs, so what is needed there is not known; {WANTED} > FILE, by "
            "--keep-from FILE"
        )

    records = Records(workspace)

    def referrers() -> Mapping[str, str]:
        return {**(listed or {}), **records.now()}

    return Place(workspace, decide(survey(workspace.folder / STAGES), referrers(), older_than), referrers)


def gc_command(
    root: Annotated[
        Path, typer.Option(help="Folder with NAMESPACE/stages: that of `kubedistill run`, or a mounted storage.")
    ] = DEFAULT_ROOT,
    older_than: Annotated[
        timedelta, typer.Option(parser=age, metavar="AGE", help="Keep what was written since: 30d, 12h, 90m.")
    ] = "30d",  # type: ignore[assignment]
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Only this one.")] = None,
    keep_from: Annotated[
        str | None, typer.Option(metavar="FILE", help="A cluster's jobs, as kubectl prints them; - reads stdin.")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Do it. Without, it is only shown.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Plain text.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Remove the stages that no job, probe or study refers to any more.

    A stage's folder stays while a record of a job in --root mentions it, or a resource in --keep-from; while somebody
    writes to it; while it is younger than --older-than; and while a stage that stays was made from it. Half-written
    files of that age go out of the folders that stay. To give a job up, delete its record, NAMESPACE/jobs/KIND/NAME in
    the root, or in a cluster the resource. What a job delivered to spec.output.uri is never touched.

    [bold]Examples[/bold]

      kubedistill gc                           [dim]what would go, and why the rest stays[/dim]
      kubedistill gc --older-than 7d --delete
      kubectl get djob,tprobe,dstudy -A -o json > kept.json && \\
        kubedistill gc --root /mnt/artifacts --keep-from kept.json

    [bold]Exit codes[/bold]: 0 shown, or done; 1 something could not be removed; 2 wrong usage; 65 nothing says what is
    needed, or it cannot be read.
    """
    listed = None if keep_from is None else of_cluster(_text(keep_from))
    found = places(root, older_than, namespace, listed)
    outcome = _acted(found) if delete else {}
    if as_json:
        print(json.dumps({"deleted": delete, "folders": _as_data(found, outcome)}, indent=1))
    else:
        _show(console_of(color=not no_color), found, outcome, delete)
    if any(said.startswith(FAILED) for said in outcome.values()):
        raise typer.Exit(EXIT_FAILED)


FAILED = "not removed: "


def _text(source: str) -> str:
    if source == "-":
        return sys.stdin.read()
    try:
        return Path(source).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--keep-from {source}: {error}; {WANTED}") from None


def _acted(found: list[Place]) -> dict[tuple[str, str], str]:
    """What came in between, by namespace and folder."""
    outcome: dict[tuple[str, str], str] = {}
    for place in found:
        for verdict in place.verdicts:
            if verdict.keep and not verdict.leftovers:
                continue
            key = place.namespace, verdict.folder.name
            try:
                if said := sweep(place.workspace.folder / STAGES, verdict, place.referrers()):
                    outcome[key] = f"kept: {said}"
            except OSError as error:
                outcome[key] = f"{FAILED}{error.strerror}: {error.filename}"
    return outcome


def _show(console: Console, found: list[Place], outcome: Mapping[tuple[str, str], str], delete: bool) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for heading in ("namespace", "folder", "", "size", "why"):
        table.add_column(heading, no_wrap=heading != "why", justify="right" if heading == "size" else "left")
    freed, gone, folders = 0, 0, 0
    for place in found:
        for verdict in place.verdicts:
            said = outcome.get((place.namespace, verdict.folder.name))
            if not verdict.keep and not said:
                gone += 1
            folders += 1
            freed += 0 if said else verdict.freed
            word = "keep" if verdict.keep or said else "gone" if delete else "goes"
            table.add_row(
                place.namespace, verdict.folder.name, word, decimal(verdict.folder.bytes), said or verdict.why
            )
            for rest in verdict.leftovers:
                why = f"half-written, {spoken(rest.age)} ago"
                table.add_row("", f"  {rest.path}", "gone" if delete else "goes", decimal(rest.bytes), said or why)
    console.print(table)
    if delete:
        console.print(f"{gone} of {folders} folders removed, {decimal(freed)} freed")
    else:
        do = "; --delete does it" if freed or gone else ""
        console.print(f"{gone} of {folders} folders would go, {decimal(freed)} would be freed{do}")


def _as_data(found: list[Place], outcome: Mapping[tuple[str, str], str]) -> list[dict[str, object]]:
    return [
        {
            "namespace": place.namespace,
            "folder": verdict.folder.name,
            "keep": verdict.keep or bool(said),
            "why": said or verdict.why,
            "bytes": verdict.folder.bytes,
            "freed": 0 if said else verdict.freed,
            "leftovers": [rest.path for rest in verdict.leftovers],
        }
        for place in found
        for verdict in place.verdicts
        for said in [outcome.get((place.namespace, verdict.folder.name), "")]
    ]
