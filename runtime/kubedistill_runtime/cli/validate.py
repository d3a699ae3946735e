"""`kubedistill validate`: what is wrong in manifests, all of it at once."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from kubedistill_api.benchmarks import PRESETS, preset_at
from kubedistill_api.data import Benchmark
from kubedistill_api.graph import recipe
from kubedistill_api.manifest import FieldError, Manifest, ManifestError, load
from kubedistill_api.stage import ExitCode


def read_manifest(path: Path) -> Manifest:
    """A manifest file; `-` is standard input. Raises ManifestError."""
    return load(sys.stdin.read()) if str(path) == "-" else load(path)


def validate_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Manifest files; - reads standard input.")],
) -> None:
    """Check manifests without running anything.

    Every error of every file is shown, with its line, its field, what is wrong and what would be right. What is
    fine is listed. Whether files and models exist is checked by [bold]plan[/bold] and [bold]run[/bold].

    [bold]Examples[/bold]

      kubedistill validate job.yaml
      kubedistill validate jobs/*.yaml && git commit
      kubectl get djob ded-math -o yaml | kubedistill validate -

    [bold]Exit codes[/bold]: 0 all is well; 65 there are errors.
    """
    errors: list[FieldError] = []
    for path in files:
        try:
            manifest = read_manifest(path)
        except ManifestError as invalid:
            errors += invalid.errors
            for error in invalid.errors:
                _show(error)
            continue
        for item in [*manifest.resources, *manifest.runtimes]:
            place = "" if item.kind == "ClusterDistillationRuntime" else f"{item.metadata.namespace}/"
            typer.echo(f"{path}: {typer.style('OK', fg='green')} {item.kind} {place}{item.metadata.name}")
        for resource in manifest.resources:
            for benchmark in recipe(resource).evaluation.benchmarks:
                _show_preset(resource.metadata.name, benchmark)
    if errors:
        count = len({error.file for error in errors})
        found = f"{len(errors)} error{'s' if len(errors) > 1 else ''} in {count} file{'s' if count > 1 else ''}"
        typer.echo(typer.style(found, fg="red", bold=True), err=True)
        raise typer.Exit(ExitCode.BAD_INPUT)


def _show_preset(resource: str, benchmark: Benchmark) -> None:
    """What a benchmark is, where it is a known one."""
    name = preset_at(benchmark.uri, benchmark.subset, benchmark.split)
    if name:
        source = " ".join(filter(None, (benchmark.uri, benchmark.subset, benchmark.split)))
        what = f"{PRESETS[name].questions} questions of {source}, domain {benchmark.domain}"
        typer.echo(f"    {resource}: benchmark {benchmark.name} is {what}")


def _show(error: FieldError) -> None:
    where = f"{error.file}:{error.line}" if error.line else error.file
    field = f"{typer.style(error.path, bold=True)}: " if error.path else ""
    fix = f"\n    {typer.style(error.fix, fg='cyan')}" if error.fix else ""
    typer.echo(f"{where}: {field}{typer.style(error.problem, fg='red')}{fix}", err=True)
