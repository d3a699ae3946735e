"""A model of the world that reconcile acts on: a status store, children, storage, a clock, and an executor.

It keeps the promises that an executor makes (see `observed.py`), and records what must never happen.
"""

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from kubedistill_api.conditions import is_finished
from kubedistill_api.decision import Decision, RoundScore
from kubedistill_api.graph import Graph, Node, Resource
from kubedistill_api.job import DistillationJob
from kubedistill_api.observed import QUEUED, Action, Cause, Child, Observed, StartStage, StopStage
from kubedistill_api.planning import plan
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.reconcile import next_look, reconcile
from kubedistill_api.retries import RetryPolicy
from kubedistill_api.stage import DecideParams, StageResult
from kubedistill_api.status import Artifact, JobStatus, Progress, StageStatus, Usage
from kubedistill_api.study import DistillationStudy
from kubedistill_api.turns import Claim, Places, Turns

START = datetime(2025, 1, 1, tzinfo=UTC)
POLICY = RetryPolicy(try_again_limit=4)
FREE = (Cause.PREEMPTED, Cause.EVICTED, Cause.NODE_LOST)
COUNTED = (Cause.APPLICATION, Cause.TRY_AGAIN)
FATAL = (Cause.BAD_INPUT, Cause.OUT_OF_MEMORY, Cause.DEADLINE)


def job(epochs: int = 10, suspend: bool = False, generation: int = 1, **spec: object) -> DistillationJob:
    return DistillationJob.model_validate(
        {
            "metadata": {"name": "distil", "generation": generation},
            "spec": {
                "questions": [{"uri": "questions.jsonl"}],
                "teacher": {"model": {"uri": "hf://org/teacher"}},
                "student": {"uri": "hf://org/student"},
                "training": {"epochs": epochs},
                "evaluation": {"benchmarks": [{"name": "test", "uri": "benchmark.jsonl"}]},
                "suspend": suspend,
                **spec,
            },
        }
    )


def probe(rounds: int = 2, suspend: bool = False, **spec: object) -> TeacherProbe:
    shared = job().spec.model_dump(by_alias=True, include={"questions", "student", "evaluation"})
    candidates = [{"name": name, "model": {"uri": f"hf://org/{name}"}} for name in ("a", "b", "c")]
    return TeacherProbe.model_validate(
        {
            "metadata": {"name": "which", "generation": 1},
            "spec": shared
            | {"candidates": candidates, "procedure": {"rounds": rounds}, "suspend": suspend}
            | {"training": {"epochs": 10}}
            | spec,
        }
    )


_GRAPHS: dict[tuple[object, ...], Graph] = {}


def graph_of(resource: Resource) -> Graph:
    """The plan; of what these tests change, it depends on a few fields only."""
    if isinstance(resource, DistillationStudy):
        return plan(resource)
    procedure = resource.spec.procedure if isinstance(resource, TeacherProbe) else None
    key = (procedure and procedure.model_dump_json(), resource.spec.training.epochs, resource.spec.suspend)
    if key not in _GRAPHS:
        _GRAPHS[key] = plan(resource)
    return _GRAPHS[key]


def stage_of(status: JobStatus, name: str) -> StageStatus:
    return next(stage for stage in status.stages if stage.name == name)


def result_of(graph: Graph, name: str, finished: datetime, **metrics: float) -> StageResult:
    node = graph[name]
    return StageResult(
        stage=name,
        kind=node.kind,
        digest=node.digest,
        outputs={
            "model": Artifact(uri="model", digest="sha256:0", bytes=200),
            "report": Artifact(uri="r", digest="sha256:1", bytes=100),
        },
        metrics=metrics,
        usage=Usage(gpu_seconds=1),
        started=finished - timedelta(seconds=10),
        finished=finished,
    )


def decision_of(node: Node, left: list[str], luck: int) -> Decision:
    """The same for the same work; anything that a round can come to."""
    params = node.params
    assert isinstance(params, DecideParams)
    rng = random.Random(f"{luck} {node.digest}")
    survivors = sorted(rng.sample(left, rng.randint(1, len(left))))
    outcome = "clear" if len(survivors) == 1 else "tie" if params.round == params.rounds else "continue"
    return Decision(
        round=params.round,
        outcome=outcome,
        leader=survivors[0],
        survivors=survivors,
        scores=[RoundScore(candidate=name, score=0.5, ci=(0.4, 0.6)) for name in left],
        confidence=params.confidence,
        questions=10,
        samples=1,
        reason=f"round {params.round}",
    )


@dataclass
class Cluster:
    """The world. Methods are its events; the operator's are `look` and `settle`."""

    resource: Resource = field(default_factory=job)
    slots: int | None = None
    places: int | None = None
    """Of the runtime, which rivals share."""
    rivals: int = 0
    """Places that rivals hold; each of them asks for another one."""
    now: datetime = START
    status: JobStatus | None = None
    version: int = 0
    children: dict[tuple[str, int], Child] = field(default_factory=dict)
    results: dict[str, StageResult] = field(default_factory=dict)
    history: list[Observed] = field(default_factory=list)
    stored: list[tuple[int, Resource, JobStatus | None]] = field(default_factory=list)
    starts: Counter[tuple[str, int]] = field(default_factory=Counter)
    removed_by_hand: set[tuple[str, int]] = field(default_factory=set)
    failures: Counter[tuple[str, Cause]] = field(default_factory=Counter)
    luck: int = 0
    """Decides what a probe's rounds come to."""

    def __post_init__(self) -> None:
        self.record()

    @property
    def graph(self) -> Graph:
        return graph_of(self.resource)

    def observe(self) -> Observed:
        return Observed(tuple(self.children.values()), dict(self.results), root="/storage")

    def record(self) -> None:
        """Remembers this moment, for reads that come late."""
        self.history.append(self.observe())
        self.stored.append((self.version, self.resource, self.status))

    # The operator.

    def look(
        self, *, stale_children: int = 0, stale_status: int = 0, crash_after: int | None = None
    ) -> tuple[Action, ...]:
        """One pass: read, decide, write, act. `crash_after` ends it after so many of the write and the actions."""
        observed = self.history[-1 - min(stale_children, len(self.history) - 1)]
        version, resource, status = self.stored[-1 - min(stale_status, len(self.stored) - 1)]
        after, actions = reconcile(
            resource,
            graph_of(resource),
            status,
            observed,
            self.now,
            slots=self.slots,
            turns=self.turns(),
            policy=POLICY,
        )
        if crash_after == 0:
            return ()
        if after != (status or JobStatus()):
            if version != self.version:
                return ()  # the write is refused, so nothing is done
            if is_finished(self.status):
                assert after == self.status, "a finished job changed"
            # Through JSON, as a real store does it.
            self.status = JobStatus.model_validate_json(after.model_dump_json(by_alias=True))
            assert self.status == after
            self.version += 1
        for action in actions[: None if crash_after is None else crash_after - 1]:
            self.apply(action, resource)
        self.record()
        return actions

    def turns(self) -> Turns | None:
        """The places as the resource finds them."""
        claims = tuple(Claim(START, f"rival-{n}", ("rival",), "train") for n in range(self.rivals))
        held = {f"rival-{n}": 1 for n in range(self.rivals)}
        return Turns("Runtime r", Places(self.places), "own", ("own",), held, claims) if self.places else None

    def apply(self, action: Action, resource: Resource) -> None:
        match action:
            case StartStage(stage, attempt):
                self._start(stage, attempt, resource)
            case StopStage(stage, attempt):
                child = self.children.get((stage, attempt))
                if child and child.alive:
                    self.children[stage, attempt] = replace(child, state="stopping")

    def _start(self, stage: str, attempt: int, resource: Resource) -> None:
        others = [c for c in self.children.values() if c.stage == stage]
        if any(c.attempt >= attempt for c in others) or any(c.alive for c in others):
            return
        node = graph_of(resource)[stage]
        assert not is_finished(self.status), f"{stage} was started after the end"
        for need in node.needs.values():
            there = graph_of(resource)[need].digest in self.results
            skipped = self.status is not None and stage_of(self.status, need).state == "Skipped"
            assert there or skipped, f"{stage} was started before {need}"
        assert not node.guard or self.dismissed(graph_of(resource), stage) is False, f"{stage} was not needed"
        assert not self.starts[stage, attempt] or (stage, attempt) in self.removed_by_hand, f"{stage} {attempt} twice"
        self.starts[stage, attempt] += 1
        self.children[stage, attempt] = Child(stage, attempt, node.digest, "pending", reason="Unschedulable")

    def dismissed(self, graph: Graph, stage: str) -> bool | None:
        """Whether a decision made the stage needless; None while that is open."""
        guard = graph[stage].guard
        if guard is None or self.dismissed(graph, guard.decide):
            return guard is not None
        result = self.results.get(graph[guard.decide].digest)
        return result.decision.dismisses(guard.candidate) if result and result.decision else None

    # The world.

    def living(self) -> list[Child]:
        return list(self.observe().alive())

    def run(self, child: Child) -> None:
        self._put(replace(child, state="running", reason="", progress=Progress(done=1), started=self.now))

    def succeed(self, child: Child) -> None:
        """The result comes first; the end of the child may be seen later, or never."""
        for node in self.graph.nodes:
            if node.digest == child.digest:
                self._leave(node)
        self._put(replace(child, state="succeeded"))

    def write_result(self, child: Child) -> None:
        """The stage's last act, with the child still alive."""
        for node in self.graph.nodes:
            if node.digest == child.digest:
                self._leave(node)
        self.record()

    def _leave(self, node: Node) -> None:
        result = result_of(self.graph, node.name, self.now)
        if isinstance(node.params, DecideParams):
            left = [
                c for c in node.params.students if not self.dismissed(self.graph, f"sample-{c}-r{node.params.round}")
            ]
            result = result.model_copy(update={"decision": decision_of(node, left, self.luck)})
        self.results.setdefault(node.digest, result)

    def fail(self, child: Child, cause: Cause) -> None:
        self.failures[child.stage, cause] += 1
        self._put(replace(child, state="failed", cause=cause, message=f"{cause} in {child.stage}"))

    def evict(self, child: Child) -> None:
        """A queue suspends it, and may admit it again."""
        self._put(replace(child, state="pending", reason=QUEUED, progress=None, started=None))

    def remove(self, child: Child) -> None:
        """By hand, or by a time to live."""
        del self.children[child.stage, child.attempt]
        self.removed_by_hand.add((child.stage, child.attempt))
        self.record()

    def end_stopping(self, child: Child) -> None:
        del self.children[child.stage, child.attempt]
        self.record()

    def _put(self, child: Child) -> None:
        self.children[child.stage, child.attempt] = child
        self.record()

    def change(self, resource: Resource) -> None:
        generation = self.resource.metadata.generation + 1
        meta = resource.metadata.model_copy(update={"generation": generation})
        self.resource = resource.model_copy(update={"metadata": meta})
        self.version += 1
        self.record()

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def settle(self, rounds: int = 400) -> None:
        """Reads are fresh, nothing crashes, and every child that is wanted comes to a good end, until nothing is left
        to do. A child that is not wanted hangs until it is stopped."""
        self.rivals = 0
        for _ in range(rounds):
            version = self.version
            actions = self.look()
            moved = False
            for child in self.living():
                if child.state == "stopping":
                    self.end_stopping(child)
                elif not self.wants(child):
                    continue
                elif child.state == "pending":
                    self.run(child)
                else:
                    self.succeed(child)
                moved = True
            if not actions and not moved and version == self.version:
                pause = next_look(self.resource, self.status, self.now, POLICY) if self.status else None
                if pause is None or is_finished(self.status):
                    return
                self.advance(pause.total_seconds())
        raise AssertionError(f"never came to rest: {self.status and self.status.conditions}")

    def settle_until(self, stage: str) -> None:
        """The same until the stage has a child that is pending."""
        while not any(child.stage == stage for child in self.living()):
            self.look()
            for child in self.living():
                if child.stage != stage:
                    self.run(child) if child.state == "pending" else self.succeed(child)
        self.look()

    def wants(self, child: Child) -> bool:
        """Whether the status counts on this child."""
        stages = self.status.stages if self.status and not is_finished(self.status) else []
        return any((s.name, s.attempt, s.digest) == (child.stage, child.attempt, child.digest) for s in stages)

    def check(self) -> None:
        """What holds at every moment."""
        living = Counter(child.stage for child in self.living())
        assert all(n == 1 for n in living.values()), f"two attempts of one stage at once: {living}"
        for stage in self.status.stages if self.status else ():
            if stage.waiting_since:
                asks = (stage.state, stage.reason) == ("Waiting", "WaitingForPlace")
                assert asks, f"{stage.name} stands in the line and does not wait"
            failed = self.failures[stage.name, Cause.APPLICATION]
            assert stage.failures <= failed, f"{stage.name} counts {stage.failures} failures of {failed}"


def running(cluster: Cluster, stage: str) -> Child:
    """The stage's child, running."""
    cluster.look()
    child = next(c for c in cluster.living() if c.stage == stage)
    cluster.run(child)
    cluster.look()
    return next(c for c in cluster.living() if c.stage == stage)
