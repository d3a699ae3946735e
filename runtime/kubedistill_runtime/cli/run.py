"""`kubedistill run`: a manifest's jobs, probes and studies on this machine, from where they stand to their end."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kubedistill_api.conditions import find
from kubedistill_api.manifest import Manifest, ManifestError, load
from kubedistill_api.stage import ExitCode
from kubedistill_runtime.cli.live import LineView, LiveView, QuietView, console_of
from kubedistill_runtime.cli.summary import print_failures, print_summary
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.local.drive import Interrupt
from kubedistill_runtime.local.runner import (
    DEFAULT_SETTINGS,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Ended,
    Settings,
    View,
    run_resource,
)
from kubedistill_runtime.local.workspace import DEFAULT_ROOT


def run(
    manifest: Path,
    root: Path = DEFAULT_ROOT,
    *,
    settings: Settings = DEFAULT_SETTINGS,
    color: bool = True,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    """Runs everything in a manifest file, in its order, until one does not complete; returns the exit code.

    Messages go to standard output, with `as_json` to standard error: there the final status alone, one JSON object
    per resource, goes to standard output. Errors go to standard error.
    """
    errors = Console(stderr=True, no_color=not color, soft_wrap=True)
    console = console_of(color=color, stderr=as_json)
    try:
        loaded = load(manifest).resolved()
        if not loaded.resources:
            raise BadInput(f"{manifest}: holds no DistillationJob, no TeacherProbe and no DistillationStudy; add one")
        with Interrupt().catching() as interrupt:
            return _run_all(loaded, root, interrupt, settings, console, quiet, as_json)
    except (ManifestError, BadInput) as error:
        errors.print(f"error: {error}", markup=False, highlight=False)
        return ExitCode.BAD_INPUT
    except TryAgain as error:
        errors.print(f"error: {error}", markup=False, highlight=False)
        return ExitCode.TRY_AGAIN
    except OSError as error:
        errors.print(f"error: {error}; is {root} a folder that can be written to?", markup=False, highlight=False)
        return EXIT_FAILED


def _run_all(
    manifest: Manifest,
    root: Path,
    interrupt: Interrupt,
    settings: Settings,
    console: Console,
    quiet: bool,
    as_json: bool,
) -> int:
    code: int = ExitCode.DONE
    for resource in manifest.resources:
        if interrupt.count:
            return EXIT_INTERRUPTED
        ended = run_resource(resource, manifest.runtime_of(resource), root, _view(console, quiet), interrupt, settings)
        _report(ended, console, quiet)
        if as_json:
            print(ended.status.model_dump_json(by_alias=True, exclude_none=True))
            sys.stdout.flush()
        code = ended.exit_code
        if code:
            break
    return code


def _view(console: Console, quiet: bool) -> View:
    if quiet:
        return QuietView()
    return LiveView(console) if console.is_terminal else LineView(console)


def _report(ended: Ended, console: Console, quiet: bool) -> None:
    failure = find(ended.status.conditions, "Failed")
    if quiet and failure:
        text = f"{ended.resource.metadata.name}: {failure.reason}: {failure.message}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if not quiet:
        if ended.nothing_to_do:
            console.print("nothing to do: all stages reused")
        console.print()
        print_summary(console, ended.resource.metadata.name, ended.status)
    print_failures(console, ended.graph, ended.status, ended.workspace)


def run_command(
    manifest: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="YAML file with jobs, probes or studies.", exists=True, dir_okay=False),
    ],
    root: Annotated[Path, typer.Option(help="Folder that keeps stages, results and states.")] = DEFAULT_ROOT,
    parallel: Annotated[int, typer.Option(min=1, help="Stages that may run at once; each may use every GPU.")] = 1,
    no_color: Annotated[bool, typer.Option("--no-color", help="Plain text.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the final status as JSON; the rest to stderr.")
    ] = False,
) -> None:
    """Run a job, a probe or a study on this machine, or go on with it.

    Every stage leaves its result in the folder --root under a name made of its parameters and inputs. What is there
    already is used again, also by other jobs: after an interruption, a failure or a change of the manifest only the
    rest is done. Ctrl-C stops cleanly, a second one at once.

    Exit codes: 0 complete; 1 a stage failed; 2 wrong usage; 65 the manifest, or something it names, is wrong; 75
    something outside failed, try again later; 130 interrupted or suspended, run again to go on.
    """
    settings = Settings(slots=parallel)
    raise typer.Exit(run(manifest, root, settings=settings, color=not no_color, quiet=quiet, as_json=as_json))
