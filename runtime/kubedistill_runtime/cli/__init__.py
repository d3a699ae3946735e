"""The command `kubedistill`. Each command's module is loaded when it is called, so that help comes at once."""

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kubedistill_api import __version__

COMMANDS = {
    "validate": ("validate", "Check manifests; every error with its line and its fix."),
    "plan": ("plan", "Show what a job will do and take, before anything starts."),
    "benchmarks": ("benchmarks", "List the benchmarks that a manifest can name."),
    "run": ("run", "Run a job, a probe or a study on this machine, or go on with it."),
    "study": ("study", "Run a study: which of a method's steps help, and which do not?"),
    "status": ("status", "Show the jobs and probes of this machine."),
    "traces": ("traces", "Page through questions, traces, verdicts and fates."),
    "report": ("report", "Open the report of a job."),
    "gc": ("gc", "Remove stages that no job refers to any more; without --delete, show them."),
    "verify": ("verify", "Check answers of your own: a file of responses in, verdicts out."),
}
"""Name -> module below this package, which has NAME_command, and the line of help."""

EPILOG = """
[bold]Examples[/bold]

  kubedistill validate job.yaml              [dim]is it right?[/dim]
  kubedistill plan job.yaml                  [dim]does it fit, what will it cost?[/dim]
  kubedistill run job.yaml                   [dim]do it; run again to go on[/dim]
  kubedistill traces ded-math --dropped any  [dim]what was thrown away, and why?[/dim]

[bold]Exit codes[/bold]

  0    done; of status and traces: shown, whatever became of the job
  1    a stage failed, or the job's limit of tries or time was reached
  2    wrong usage
  3    does not fit into memory (plan)
  65   something you gave is wrong; trying again cannot help
  75   something outside failed, or is not there yet; try again
  130  interrupted
"""


class _Commands(TyperGroup):
    """Replaces the stub of a command by the command itself when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            self.add_command(_load(args[0]), args[0])
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="kubedistill",
    cls=_Commands,
    epilog=EPILOG,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry of the console script."""
    try:
        app()
    except BrokenPipeError:
        # The reader, `head` perhaps, has seen enough. Python would fail once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"kubedistill {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Distil a teacher's reasoning into a student, with as few traces as it takes."""


def _stub() -> None:
    raise AssertionError("a command is loaded before it is called")


for _name, (_, _line) in COMMANDS.items():
    app.command(_name, help=_line)(_stub)


def _load(name: str) -> Any:
    module = importlib.import_module(f"kubedistill_runtime.cli.{COMMANDS[name][0]}")
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    command = getattr(module, f"{name}_command")
    settings = {"help_option_names": ["-h", "--help"]}
    alone.command(name, help=flowing(command.__doc__ or ""), context_settings=settings)(_with_exit_codes(command))
    return typer.main.get_command(alone)


def flowing(text: str) -> str:
    """The paragraphs of a docstring, each on one line for the terminal to break; indented ones stay as they are."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else p.replace("\n", " ") for p in paragraphs)


def _with_exit_codes(command: Callable[..., None]) -> Callable[..., None]:
    """Says what is wrong in a line, and ends with the code for it."""
    from kubedistill_api.manifest import ManifestError
    from kubedistill_api.stage import ExitCode
    from kubedistill_runtime.errors import BadInput, TryAgain

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ManifestError, BadInput) as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(ExitCode.BAD_INPUT) from None
        except TryAgain as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(ExitCode.TRY_AGAIN) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return guarded
