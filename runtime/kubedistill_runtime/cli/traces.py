"""`kubedistill traces`: what the teacher wrote, how it was judged, and what became of it."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType

from kubedistill_runtime.cli.jobs import ROOT_HELP, TARGET_HELP, find_job
from kubedistill_runtime.cli.trace_data import Filter, Traces, reasons
from kubedistill_runtime.cli.trace_view import lines_of, question_view, trace_view
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.local.workspace import DEFAULT_ROOT

PIPE_WIDTH = 1_000_000
"""Lines are not broken for programs."""


def traces_command(
    target: Annotated[str, typer.Argument(metavar="NAME|FILE", help=TARGET_HELP)],
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="One question: its id, the id's beginning, or #3.")
    ] = None,
    kept: Annotated[bool, typer.Option("--kept", help="Traces in the corpus.")] = False,
    dropped: Annotated[
        str | None,
        typer.Option("--dropped", metavar="REASON", help="Traces dropped for a reason or at a stage; `any` for all."),
    ] = None,
    correct: Annotated[bool | None, typer.Option("--correct/--wrong", help="By verdict.")] = None,
    candidate: Annotated[str | None, typer.Option(help="Teacher of a probe.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Print everything, without keys.")] = False,
    root: Annotated[Path, typer.Option(help=ROOT_HELP)] = DEFAULT_ROOT,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Where several have the name.")] = None,
) -> None:
    """Page through questions and the teacher's traces, with verdicts and fates.

    Works while the job runs: traces appear as they are written, fates once they are curated. In a terminal, keys lead
    from trace to trace; into a pipe, everything is printed.

    [bold]Keys[/bold]

      n p  next, previous trace        space b  down, up in a long trace
      j k  next, previous question     g G      first, last question       q  quit

    [bold]Examples[/bold]

      kubedistill traces ded-math
      kubedistill traces ded-math --dropped any
      kubedistill traces ded-math --dropped repetition --wrong
      kubedistill traces which-teacher --candidate terse -q "#3"
      kubedistill traces ded-math --kept --plain | less -R

    [bold]Exit codes[/bold]: 0 shown; 65 no such job, question or reason; 75 nothing is there yet.
    """
    if kept and dropped:
        raise BadInput("--kept and --dropped exclude each other; give one of them")
    job, status = find_job(target, root, namespace)
    traces = Traces(job, status, candidate)
    if (kept or dropped) and not traces.curated:
        raise TryAgain(f"{job.name} is not curated yet, so nothing is kept or dropped; leave out --kept and --dropped")
    wanted = Filter(
        question=question,
        fate="kept" if kept else "dropped" if dropped else "any",
        reason=None if dropped in (None, "any") else dropped,
        correct=correct,
    )
    questions = traces.questions(wanted)
    if not questions:
        found = ", ".join(f"{reason} ({count})" for reason, count in reasons(traces).items())
        hint = f"; traces were dropped for: {found}" if dropped and found else ""
        raise BadInput(f"{job.name}: no trace passes these filters{hint}")
    if sys.stdin.isatty() and sys.stdout.isatty() and not plain:
        from kubedistill_runtime.cli.pager import page_through

        page_through(Console(highlight=False), traces, questions)
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    for each in questions:
        _print(console, question_view(each))
        for trace in traces.traces(each):
            _print(console, trace_view(trace, traces.curated))


def _print(console: Console, view: RenderableType) -> None:
    for line in lines_of(console, view, console.width):
        sys.stdout.write(line.rstrip() + "\n")
