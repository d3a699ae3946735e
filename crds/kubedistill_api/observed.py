"""What reconcile sees and what it asks for: children, results, and the actions of an executor."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from kubedistill_api.stage import StageResult
from kubedistill_api.status import Progress

ChildState = Literal["pending", "running", "stopping", "succeeded", "failed"]

QUEUED = "Queued"
"""Reason of a pending child that a queue has yet to admit, or has put back. It has no pods, and fails nothing."""


class Cause(StrEnum):
    """Why a child failed. The values are the reasons shown in the status."""

    APPLICATION = "ApplicationError"
    """The program ended with an error. Counts against `backoffLimit`."""
    BAD_INPUT = "BadInput"
    """Exit code 65: what the user gave is wrong."""
    TRY_AGAIN = "TryAgain"
    """Exit code 75: something outside failed and may come back."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The kernel or the device had no memory left; the same start would end the same."""
    PREEMPTED = "Preempted"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    DELETED = "PodDeleted"
    """Somebody deleted a pod by hand."""
    UNSCHEDULABLE = "Unschedulable"
    """Some of its pods had a place and others found none for so long that it gave them back."""
    QUOTA = "QuotaExceeded"
    """The same for want of quota."""
    DEADLINE = "DeadlineExceeded"
    """The child's own deadline passed."""


@dataclass(frozen=True)
class Child:
    """One start of one stage, as the executor finds it: a Job, or a process group."""

    stage: str
    attempt: int
    digest: str
    """Of the work it was started for; the plan may have changed since."""
    state: ChildState
    """`stopping` is alive, but told to end."""
    cause: Cause | None = None
    """Why it failed; only with state `failed`, where None counts as an application error."""
    exit_code: int | None = None
    reason: str = ""
    """Why it is pending, one CamelCase word: Unschedulable, ImagePullBackOff, QuotaExceeded; or what is wrong with a
    running or stopping one."""
    message: str = ""
    """The same, or the failure, in a sentence."""
    pod: str | None = None
    """Where it runs: a pod's name, or a process id."""
    progress: Progress | None = None
    started: datetime | None = None
    partly: bool = False
    """Some of its pods hold a place and others have none: of two such children each may wait for the other."""
    wanted: bool = False
    """It finds no room, and others could start if it gave its place on the runtime back."""
    remains: bool = False
    """It failed and will not come back, but is not removed: a Job whose pod is on a lost node. To be stopped."""

    @property
    def alive(self) -> bool:
        return self.state in ("pending", "running", "stopping")


@dataclass(frozen=True)
class Observed:
    """The world as the executor last saw it. It may be behind; it may not be made up."""

    children: tuple[Child, ...] = ()
    """Every child of the resource that still exists, in any order, older attempts included."""
    results: Mapping[str, StageResult] = field(default_factory=dict)
    """Results in storage, by digest; read after the children. Where a stage has one there is nothing left to do."""
    root: str = ""
    """URI of the namespace's storage; artifacts in the status are named below it."""

    def of(self, stage: str) -> tuple[Child, ...]:
        """The stage's children, oldest attempt first."""
        return tuple(sorted((c for c in self.children if c.stage == stage), key=lambda c: c.attempt))

    def alive(self) -> Iterator[Child]:
        """Living children in a stable order."""
        return iter(sorted((c for c in self.children if c.alive), key=lambda c: (c.stage, c.attempt)))


@dataclass(frozen=True)
class Hold:
    """Nothing may start for now; what runs goes on."""

    reason: str
    """One CamelCase word: RuntimeNotFound, WaitingForProbe."""
    message: str
    """The same in a sentence, with what to do."""
    final: bool = False
    """Waiting cannot help: the job fails."""


@dataclass(frozen=True)
class StartStage:
    """Create the child of this name. The executor makes it a no-op where this or a later attempt exists already,
    and refuses, upon a live look, while an earlier attempt of the stage is alive."""

    stage: str
    attempt: int


@dataclass(frozen=True)
class StopStage:
    """End this child, gracefully, and remove it. A no-op where it does not live."""

    stage: str
    attempt: int


@dataclass(frozen=True)
class DeleteResource:
    """Delete the resource: `ttlSecondsAfterFinished` is over."""


Action = StartStage | StopStage | DeleteResource
