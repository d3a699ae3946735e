"""One resource from manifest to output on this machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kubedistill_api.conditions import find, holds, is_finished
from kubedistill_api.graph import Graph, Resource
from kubedistill_api.job import DistillationJob
from kubedistill_api.manifest import load
from kubedistill_api.planning import plan
from kubedistill_api.probe import Candidate, TeacherProbe
from kubedistill_api.retries import RetryPolicy
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.stage import ExitCode
from kubedistill_api.status import JobStatus, StageStatus
from kubedistill_runtime.data.delivery import deliver
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.local.drive import LOCAL_POLICY, Interrupt, drive, taken_up
from kubedistill_runtime.local.executor import GRACE_S, STAGE_COMMAND, LocalExecutor
from kubedistill_runtime.local.fingerprints import sources
from kubedistill_runtime.local.machine import default_runtime
from kubedistill_runtime.local.workspace import JobFolder, Workspace

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
LOCK_TICK_S = 0.1


class View(Protocol):
    """What a person sees while a job runs."""

    def begin(self, title: str, log_of: Callable[[StageStatus], str]) -> None: ...

    def show(self, status: JobStatus) -> None:
        """Called at every look, changed or not."""

    def note(self, text: str) -> None: ...

    def end(self) -> None: ...


@dataclass(frozen=True)
class Settings:
    """How stages are run."""

    slots: int | None = 1
    """Stages at once; None is no bound."""
    command: Sequence[str] = STAGE_COMMAND
    """The path of the spec is added to it."""
    grace_s: float = GRACE_S
    policy: RetryPolicy = LOCAL_POLICY


DEFAULT_SETTINGS = Settings()


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    resource: Resource
    graph: Graph
    workspace: Workspace
    status: JobStatus
    exit_code: int
    nothing_to_do: bool
    """The job was complete before."""


def run_resource(
    resource: Resource,
    runtime: RuntimeSpec | None,
    root: Path,
    view: View,
    interrupt: Interrupt,
    settings: Settings = DEFAULT_SETTINGS,
) -> Ended:
    """Runs a job or a probe until it has ended or `interrupt` says so.

    `resource` has absolute URIs; without a `runtime` the stages get this machine. Raises BadInput when the resource
    names something that is not there, TryAgain when the disk is full or the output cannot be reached.
    """
    workspace = Workspace(root.resolve() / resource.metadata.namespace)
    fingerprints, teacher = sources(resource), None
    if taken := winner(resource, workspace):
        probe, teacher, said = taken
        fingerprints = sources(probe) | fingerprints
        view.note(said)
    graph = plan(resource, sources=fingerprints, teacher=teacher)
    folder = workspace.job(resource.kind, resource.metadata.name)
    with folder.lock() as lock:
        noted = False
        while not lock.acquire():
            if interrupt.count:
                status = folder.read_status() or JobStatus()
                return Ended(resource, graph, workspace, status, EXIT_INTERRUPTED, False)
            if not noted:
                view.note(f"{resource.metadata.name} is being run by process {lock.holder()}; waiting for it to end")
                noted = True
            time.sleep(LOCK_TICK_S)
        return _run_locked(resource, graph, runtime, workspace, folder, view, interrupt, settings)


def _run_locked(
    resource: Resource,
    graph: Graph,
    runtime: RuntimeSpec | None,
    workspace: Workspace,
    folder: JobFolder,
    view: View,
    interrupt: Interrupt,
    settings: Settings,
) -> Ended:
    status = taken_up(folder.read_status(), graph, workspace.results(graph))
    nothing_to_do = is_finished(status)
    if not nothing_to_do:
        folder.write_manifest(resource)
        find_runtime: Callable[[], RuntimeSpec] = (lambda: runtime) if runtime else default_runtime
        executor = LocalExecutor(graph, workspace, find_runtime, command=settings.command, grace_s=settings.grace_s)
        title = f"{resource.kind} {resource.metadata.name}: {len(graph.nodes)} stages in {workspace.folder}"
        view.begin(title, lambda stage: str(workspace.log(graph[stage.name], stage.attempt)))
        try:
            status = drive(
                resource,
                graph,
                status,
                folder,
                executor,
                interrupt,
                view.show,
                slots=settings.slots,
                policy=settings.policy,
            )
        finally:
            view.end()
    output = resource.spec.output if isinstance(resource, DistillationJob) else None
    if output and holds(status.conditions, "Complete") and deliver(workspace.made(graph), output.uri):
        view.note(f"written to {output.uri}")
    return Ended(resource, graph, workspace, status, exit_code(status), nothing_to_do)


def exit_code(status: JobStatus) -> int:
    """What the shell is told."""
    if holds(status.conditions, "Complete"):
        return ExitCode.DONE
    failure = find(status.conditions, "Failed")
    if failure is None:
        return EXIT_INTERRUPTED
    match failure.reason:
        case "BadInput":
            return ExitCode.BAD_INPUT
        case "TryAgainLimitExceeded":
            return ExitCode.TRY_AGAIN
    return EXIT_FAILED


def winner(resource: Resource, workspace: Workspace) -> tuple[TeacherProbe, Candidate, str] | None:
    """The probe that a job takes its teacher from, the winner, and what is to be said of it; None without a probe.

    Raises BadInput where the probe has no winner yet.
    """
    if not isinstance(resource, DistillationJob) or resource.spec.teacher.probe_ref is None:
        return None
    name = resource.spec.teacher.probe_ref.name
    field = f"spec.teacher.probeRef: TeacherProbe {name}"
    folder = workspace.job("TeacherProbe", name)
    status = folder.read_status()
    if status is None:
        raise BadInput(
            f"{field} was never run in {workspace.folder}; run its manifest first: kubedistill run PROBE.yaml"
        )
    if not holds(status.conditions, "Complete") or status.winner is None:
        raise BadInput(f"{field} is {status.phase}, not Complete; finish it first: kubedistill run PROBE.yaml")
    probe = next(r for r in load(folder.manifest).resources if isinstance(r, TeacherProbe))
    candidate = next(c for c in probe.spec.candidates if c.name == status.winner)
    said = f"the teacher is {candidate.name}, the winner of TeacherProbe {name}"
    if status.outcome and status.outcome.outcome == "tie":
        said = f"the teacher is {candidate.name}, the best estimate of TeacherProbe {name}: {status.outcome.reason}"
    return probe, candidate, said
