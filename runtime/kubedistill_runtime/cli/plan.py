"""`kubedistill plan`: the graph, the memory fit and the cost, before anything starts."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kubedistill_api.graph import Graph, Resource
from kubedistill_api.job import DistillationJob
from kubedistill_api.manifest import Manifest
from kubedistill_api.planning import plan
from kubedistill_api.probe import Candidate, TeacherProbe
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_runtime.cli.plan_view import PIPE_WIDTH, as_data, print_forecast
from kubedistill_runtime.cli.validate import read_manifest
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.estimate.advice import advice
from kubedistill_runtime.estimate.benchmarks import benchmark_forecasts
from kubedistill_runtime.estimate.forecast import Forecast, forecast
from kubedistill_runtime.local.fingerprints import sources
from kubedistill_runtime.local.machine import default_runtime
from kubedistill_runtime.local.workspace import DEFAULT_ROOT, Workspace

EXIT_DOES_NOT_FIT = 3


def plan_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Manifest file; - reads standard input.")],
    root: Annotated[Path, typer.Option(help="Where finished stages are looked for.")] = DEFAULT_ROOT,
    half_width: Annotated[
        float | None,
        typer.Option(min=0.1, max=50, help="Show the samples for intervals of at most so many points to either side."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a job will do and take, before anything starts.

    For each job, probe and study of the file: its stages, which of them are done already, the tokens, GPU time and
    cost that are to be expected, and whether each model fits into the GPUs of its role. The figures are estimates;
    what they assume is said below them. GPUs, their memory and their price come from the runtime that the job refers
    to, where the file has it, otherwise from this machine. Of each benchmark it is said how wide the intervals of its
    score and of a difference will be, and how narrow samples alone can make them.

    [bold]Examples[/bold]

      kubedistill plan job.yaml
      cat runtime.yaml job.yaml | kubedistill plan -
      kubedistill plan job.yaml --half-width 2    [dim]samples for differences of 2 points[/dim]
      kubedistill plan job.yaml --json | jq .plans[0].gpuSeconds

    [bold]Exit codes[/bold]: 0 it fits; 3 it does not fit into memory; 65 the manifest is wrong.
    """
    manifest = read_manifest(file).resolved()
    if not manifest.resources:
        raise BadInput(f"{file}: holds no DistillationJob, no TeacherProbe and no DistillationStudy; add one")
    wanted = half_width / 100 if half_width else None
    forecasts = [_forecast(resource, manifest, root, wanted) for resource in manifest.resources]
    if as_json:
        print(json.dumps({"plans": [as_data(found) for found in forecasts]}, indent=1))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
        for found in forecasts:
            print_forecast(console, found, half_width)
    if not all(found.fits_memory for found in forecasts):
        raise typer.Exit(EXIT_DOES_NOT_FIT)


def _forecast(resource: Resource, manifest: Manifest, root: Path, half_width: float | None) -> Forecast:
    warnings: list[str] = []
    runtime = manifest.runtime_of(resource)
    if runtime is None:
        ref = resource.spec.runtime_ref
        missing = f"the runtime {ref.name} is not in this file" if ref else "no runtime is given"
        warnings.append(f"spec.runtimeRef: {missing}; this machine is taken")
        runtime = _this_machine(warnings)
    graph = _graph(resource, manifest, warnings)
    workspace = Workspace(root.resolve() / resource.metadata.namespace)
    found = forecast(resource, graph, runtime, workspace.results(graph))
    found.benchmarks = benchmark_forecasts(resource, half_width)
    found.warnings[:0] = warnings
    found.warnings += advice(resource, runtime)
    return found


def _this_machine(warnings: list[str]) -> RuntimeSpec:
    runtime = default_runtime()
    if runtime.trainer.gpus:
        name = runtime.trainer.gpu
        warnings.append(f"its GPUs are taken for ones of {name.memory_gib:g} GiB; give a runtime to say what they are")
    return runtime


def _graph(resource: Resource, manifest: Manifest, warnings: list[str]) -> Graph:
    fingerprints: dict[str, str] = {}
    try:
        fingerprints = sources(resource)
    except BadInput as error:
        warnings += str(error).splitlines()
    try:
        return plan(resource, sources=fingerprints)
    except LookupError:
        assert isinstance(resource, DistillationJob)
        candidate = _stand_in(resource, manifest)
        warnings.append(f"spec.teacher.probeRef: no winner yet; the candidate {candidate.name} stands in for it")
        return plan(resource, sources=fingerprints, teacher=candidate)


def _stand_in(job: DistillationJob, manifest: Manifest) -> Candidate:
    """The first candidate of the probe that a job waits for."""
    ref = job.spec.teacher.probe_ref
    assert ref is not None
    for probe in manifest.resources:
        same = probe.metadata.name == ref.name and probe.metadata.namespace == job.metadata.namespace
        if isinstance(probe, TeacherProbe) and same:
            return probe.spec.candidates[0]
    raise BadInput(
        f"spec.teacher.probeRef: the teacher is the winner of {ref.name}, which is not in this file; "
        "add the TeacherProbe to it, or give spec.teacher.model"
    )
