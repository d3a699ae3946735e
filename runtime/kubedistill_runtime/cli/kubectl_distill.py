"""`kubectl distill`: what `kubedistill run` shows on one machine, for a resource in a cluster.

kubectl finds the executable `kubectl-distill` on the PATH. The cluster is asked by kubectl itself, so that contexts,
credentials and proxies are the ones that it has.
"""

import codecs
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Annotated, Any

import typer
from rich.console import Console

from kubedistill_api.conditions import is_finished
from kubedistill_api.status import JobStatus, StageStatus
from kubedistill_runtime.cli.live import LineView, LiveView, console_of
from kubedistill_runtime.cli.summary import print_summary

EXIT_FAILED = 1
EXIT_NOT_FOUND = 2
KIND = "distillationjob"
CHUNK = 65536


@dataclass(frozen=True)
class Target:
    """A resource, and where kubectl finds it."""

    resource: str
    """`djob/demo`."""
    options: tuple[str, ...]
    """`--namespace`, `--context`."""

    def kubectl(self, *arguments: str) -> list[str]:
        return ["kubectl", *arguments, *self.options]

    def log_of(self, stage: StageStatus) -> str:
        """The command that prints a stage's log."""
        mine = f"kubedistill.io/stage={stage.name},app.kubernetes.io/instance={self.resource.partition('/')[2]}"
        return " ".join(self.kubectl("logs", "--prefix", "--selector", mine))


app = typer.Typer(
    name="kubectl distill",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root() -> None:
    """Follow distillation jobs, teacher probes and distillation studies in a cluster."""


@app.command()
def watch(
    resource: Annotated[str, typer.Argument(help="NAME of a DistillationJob, djob/NAME, tprobe/NAME or dstudy/NAME.")],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Default: the context's.")] = None,
    context: Annotated[str | None, typer.Option(help="Of the kubeconfig. Default: the current one.")] = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="Plain text.")] = False,
) -> None:
    """Show the stages of a job, a probe or a study while they run, and what came out; ends when it has ended.

    Exit codes: 0 complete; 1 failed; 2 not found, deleted, or kubectl failed; 130 interrupted (the job goes on).
    """
    given = {"--namespace": namespace, "--context": context}
    options = tuple(f"{name}={value}" for name, value in given.items() if value)
    target = Target(resource if "/" in resource else f"{KIND}/{resource}", options)
    try:
        code = follow(target, console_of(color=not no_color))
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


def follow(target: Target, console: Console) -> int:
    """Shows the resource until it has ended; returns the exit code."""
    view = LiveView(console) if console.is_terminal else LineView(console)
    begun, item = False, None
    try:
        for event in watched(target):
            item = event["object"]
            if not begun:
                view.begin(title_of(item), target.log_of)
                begun = True
            if event["type"] == "DELETED":
                view.note(f"{title_of(item)} was deleted")
                return EXIT_NOT_FOUND
            status = status_of(item)
            view.show(status)
            if is_finished(status):
                break
        else:
            return EXIT_NOT_FOUND
    finally:
        if begun:
            view.end()
    console.print()
    print_summary(console, title_of(item), status)
    return 0 if status.phase == "Complete" else EXIT_FAILED


def watched(target: Target) -> Iterator[dict[str, Any]]:
    """Watch events of the resource. API servers end every watch after a while: it is begun again. Ends when kubectl
    fails, which has said why."""
    command = target.kubectl("get", target.resource, "--watch", "--output-watch-events", "--output=json")
    while True:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            try:
                yield from events(process.stdout)
                if process.wait() != 0:
                    return
            finally:
                process.terminate()


def events(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """JSON objects from a stream that puts nothing but space between them."""
    decoder, text = json.JSONDecoder(), ""
    utf8 = codecs.getincrementaldecoder("utf-8")()
    while chunk := stream.read1(CHUNK):  # type: ignore[attr-defined]
        text += utf8.decode(chunk)
        while text := text.lstrip():
            try:
                value, end = decoder.raw_decode(text)
            except ValueError:
                break
            text = text[end:]
            yield value


def title_of(item: dict[str, Any]) -> str:
    metadata = item["metadata"]
    return f"{item['kind']} {metadata['namespace']}/{metadata['name']}"


def status_of(item: dict[str, Any]) -> JobStatus:
    return JobStatus.model_validate(item.get("status") or {})


def main() -> None:
    """Entry of the console script."""
    app()
