"""Carries out reconcile's actions with processes of this machine."""

import sys
from collections.abc import Callable, Sequence
from functools import cached_property

from kubedistill_api.graph import Graph
from kubedistill_api.observed import Action, Child, Observed, StartStage, StopStage
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_runtime.local.process import StageProcess
from kubedistill_runtime.local.workspace import Workspace

STAGE_COMMAND = (sys.executable, "-m", "kubedistill_runtime.stages")
GRACE_S = 30.0
"""A stage that is stopped has so long to write what it has."""


class LocalExecutor:
    """The processes of one graph. Each stage is one process, which starts others itself where its role asks for it."""

    def __init__(
        self,
        graph: Graph,
        workspace: Workspace,
        runtime: Callable[[], RuntimeSpec],
        *,
        command: Sequence[str] = STAGE_COMMAND,
        grace_s: float = GRACE_S,
    ) -> None:
        """`runtime` is asked once, when the first stage starts; `command` is given the path of the spec."""
        self._graph = graph
        self._workspace = workspace
        self._find_runtime = runtime
        self._command = command
        self._grace_s = grace_s
        self._processes: dict[tuple[str, int], StageProcess] = {}

    @cached_property
    def _runtime(self) -> RuntimeSpec:
        return self._find_runtime()

    def observe(self) -> Observed:
        """Children first, then results: a child that ended well has left its result by then."""
        children = []
        for key, process in list(self._processes.items()):
            child = process.observe() if process.begin() else None
            if child is None:
                del self._processes[key]
            else:
                children.append(child)
        return Observed(tuple(children), self._workspace.results(self._graph), self._workspace.uri)

    def apply(self, actions: Sequence[Action]) -> None:
        """Starts and stops. What asks for the resource's deletion is not this machine's matter."""
        for action in actions:
            if isinstance(action, StartStage):
                self._start(action.stage, action.attempt)
            elif isinstance(action, StopStage) and (action.stage, action.attempt) in self._processes:
                self._processes[action.stage, action.attempt].stop()

    def _start(self, stage: str, attempt: int) -> None:
        others = [(n, p) for (name, n), p in self._processes.items() if name == stage]
        if any(n >= attempt or is_alive(p.observe()) for n, p in others):
            return
        for n, _ in others:
            del self._processes[stage, n]
        process = StageProcess(
            self._workspace,
            self._graph[stage],
            self._graph.stage_spec(stage, self._workspace.uri, self._runtime, attempt),
            self._command,
            self._grace_s,
        )
        if process.begin():
            self._processes[stage, attempt] = process

    def stop_all(self, *, kill: bool = False) -> None:
        """Asks every stage to end, or makes it."""
        for process in self._processes.values():
            if is_alive(process.observe()):
                process.stop(kill=kill)

    def is_idle(self) -> bool:
        """Whether no process lives."""
        return not any(is_alive(process.observe()) for process in self._processes.values())

    def process(self, stage: str) -> StageProcess | None:
        """The newest attempt of a stage that was started here."""
        attempts = [(n, p) for (name, n), p in self._processes.items() if name == stage]
        return max(attempts, key=lambda item: item[0])[1] if attempts else None


def is_alive(child: Child | None) -> bool:
    return child is not None and child.alive
