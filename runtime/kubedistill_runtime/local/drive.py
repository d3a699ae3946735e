"""The loop of `kubedistill run`: look, decide, write, act, until the job has ended."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType

from kubedistill_api.advance import renewed
from kubedistill_api.conditions import holds, is_finished, put
from kubedistill_api.graph import Graph, Resource
from kubedistill_api.reconcile import reconcile
from kubedistill_api.retries import RetryPolicy
from kubedistill_api.stage import StageResult
from kubedistill_api.status import DONE, JobStatus, StageStatus
from kubedistill_runtime.local.executor import LocalExecutor
from kubedistill_runtime.local.workspace import JobFolder

LOCAL_POLICY = RetryPolicy(application_base_s=2, try_again_base_s=5, try_again_limit=6, disruption_base_s=0, cap_s=60)
"""Somebody is waiting in front of the screen: shorter waits than in a cluster, and fewer."""
TICK_S = 0.1
PROGRESS_WRITTEN_EVERY_S = 2.0


@dataclass
class Interrupt:
    """Counts the signals that ask for the end."""

    count: int = 0

    @contextmanager
    def catching(self) -> Iterator["Interrupt"]:
        """Catches SIGINT, SIGTERM and SIGHUP within the block."""

        def note(_number: int, _frame: FrameType | None) -> None:
            self.count += 1

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def taken_up(status: JobStatus | None, graph: Graph, results: dict[str, StageResult]) -> JobStatus:
    """The status to go on from. Pure.

    A job that is complete stays so while its plan is the same and every result is there. Otherwise a job that has
    ended is begun again, with what is there; attempts go on counting, failures start anew.
    """
    if status is None:
        return JobStatus()
    known = {stage.name: stage for stage in status.stages}
    ended = is_finished(status)

    def is_done(stage: StageStatus | None, digest: str) -> bool:
        there = stage and (stage.state == "Skipped" or (stage.state == "Succeeded" and digest in results))
        return bool(stage and there and stage.digest == digest)

    if holds(status.conditions, "Complete") and all(is_done(known.get(n.name), n.digest) for n in graph.nodes):
        return status
    stages = []
    for node in graph.nodes:
        stage = known.get(node.name)
        if stage is None:
            continue
        redo = stage.state in DONE or ended
        stages.append(renewed(stage, node) if redo and not is_done(stage, node.digest) else stage)
    if ended:
        return JobStatus(stages=stages, usage=status.usage)
    return status.model_copy(update={"stages": stages})


def drive(
    resource: Resource,
    graph: Graph,
    status: JobStatus,
    folder: JobFolder,
    executor: LocalExecutor,
    interrupt: Interrupt,
    show: Callable[[JobStatus], None],
    *,
    slots: int | None,
    policy: RetryPolicy = LOCAL_POLICY,
) -> JobStatus:
    """Runs the job to its end, or to the first of `interrupt`; returns the status that was written last.

    An interruption is a suspension that nobody asked for in the spec. Whatever happens, no process is left.
    """
    written = 0.0
    spec = resource.spec.model_copy(update={"suspend": True})
    suspended = resource.model_copy(update={"spec": spec})
    try:
        while True:
            stop = interrupt.count > 0
            observed = executor.observe()
            after, actions = reconcile(
                suspended if stop else resource,
                graph,
                status,
                observed,
                datetime.now(UTC),
                slots=slots,
                policy=policy,
            )
            changed = after != status
            if changed and (
                _without_progress(after) != _without_progress(status)
                or time.monotonic() - written > PROGRESS_WRITTEN_EVERY_S
            ):
                folder.write_status(after)
                written = time.monotonic()
            status = after
            executor.apply(actions)
            show(status)
            if interrupt.count > 1:
                executor.stop_all(kill=True)
            over = is_finished(status) or stop or resource.spec.suspend
            if over and executor.is_idle() and not actions:
                break
            if not changed:
                time.sleep(TICK_S)
    finally:
        _end(executor)
    if interrupt.count and not is_finished(status):
        status = _interrupted(status)
        folder.write_status(status)
    return status


def _without_progress(status: JobStatus) -> JobStatus:
    stages = [stage.model_copy(update={"progress": None}) for stage in status.stages]
    return status.model_copy(update={"stages": stages})


def _interrupted(status: JobStatus) -> JobStatus:
    message = "interrupted; run again to go on"
    now = datetime.now(UTC)
    generation = status.observed_generation
    conditions = put(status.conditions, "Suspended", "True", "Interrupted", message, now, generation)
    conditions = put(conditions, "Progressing", "False", "Interrupted", message, now, generation)
    return status.model_copy(update={"conditions": conditions})


def _end(executor: LocalExecutor) -> None:
    """On an error of our own: nothing may live on."""
    executor.stop_all()
    while not executor.is_idle():
        time.sleep(TICK_S)
