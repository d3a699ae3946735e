"""Reconcile against a world that crashes, lags, fails and changes its mind."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kubedistill_api.conditions import is_finished
from kubedistill_api.observed import Observed
from kubedistill_api.reconcile import reconcile
from tests.unit.control.cluster_model import COUNTED, FATAL, FREE, Cluster, graph_of, job, probe

STEPS = settings(max_examples=60, stateful_step_count=60, deadline=None)


class World(RuleBasedStateMachine):
    """Everything may happen in any order; the end is the same."""

    failures = FREE
    backoff_limit = 3

    @initialize(slots=st.sampled_from([None, 1, 2]), places=st.sampled_from([None, 1, 2]), suspend=st.booleans())
    def begin(self, slots: int | None, places: int | None, suspend: bool) -> None:
        self.cluster = Cluster(job(suspend=suspend, backoffLimit=self.backoff_limit), slots, places)

    def _any(self, data: st.DataObject, *states: str):
        found = [child for child in self.cluster.living() if child.state in states]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(late=st.integers(0, 6), stale=st.sampled_from([0, 0, 0, 1, 3]), crash=st.sampled_from([None, None, 0, 1, 2]))
    def operator_looks(self, late: int, stale: int, crash: int | None) -> None:
        self.cluster.look(stale_children=late, stale_status=stale, crash_after=crash)

    @rule(times=st.integers(1, 4))
    def operator_keeps_up(self, times: int) -> None:
        for _ in range(times):
            self.cluster.look()

    @rule(data=st.data())
    def child_gets_on(self, data: st.DataObject) -> None:
        if child := self._any(data, "pending", "running", "stopping"):
            match child.state:
                case "pending":
                    self.cluster.run(child)
                case "running":
                    self.cluster.succeed(child)
                case "stopping":
                    self.cluster.end_stopping(child)

    @rule(data=st.data())
    def child_writes_its_result_and_lingers(self, data: st.DataObject) -> None:
        if child := self._any(data, "running", "stopping"):
            self.cluster.write_result(child)

    @rule(data=st.data())
    def child_fails(self, data: st.DataObject) -> None:
        if child := self._any(data, "pending", "running"):
            self.cluster.fail(child, data.draw(st.sampled_from(self.failures)))

    @rule(held=st.integers(0, 2))
    def rivals_take_or_leave_places(self, held: int) -> None:
        self.cluster.rivals = held

    @rule(data=st.data())
    def queue_evicts_a_child(self, data: st.DataObject) -> None:
        if child := self._any(data, "pending", "running"):
            self.cluster.evict(child)

    @rule(data=st.data())
    def child_is_deleted_by_hand(self, data: st.DataObject) -> None:
        if self.cluster.children:
            self.cluster.remove(data.draw(st.sampled_from(sorted(self.cluster.children.values(), key=str))))

    @rule(seconds=st.sampled_from([1, 30, 700, 3600, -60, -100_000]))
    def clock_moves_or_jumps(self, seconds: float) -> None:
        self.cluster.advance(seconds)

    @rule()
    def user_suspends_or_resumes(self) -> None:
        spec = self.cluster.resource.spec
        changed = spec.model_copy(update={"suspend": not spec.suspend})
        self.cluster.change(self.cluster.resource.model_copy(update={"spec": changed}))

    @precondition(lambda self: not is_finished(self.cluster.status))
    @rule(epochs=st.integers(1, 3))
    def user_changes_the_training(self, epochs: int) -> None:
        spec = self.cluster.resource.spec
        training = spec.training.model_copy(update={"epochs": epochs})
        self.cluster.change(
            self.cluster.resource.model_copy(update={"spec": spec.model_copy(update={"training": training})})
        )

    @invariant()
    def nothing_forbidden_happened(self) -> None:
        if hasattr(self, "cluster"):
            self.cluster.check()

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        cluster = self.cluster
        if cluster.resource.spec.suspend:
            cluster.settle()
            assert not cluster.living(), "children live on in a suspended job"
            self.user_suspends_or_resumes()
        was_finished = is_finished(cluster.status)
        cluster.settle()
        assert cluster.status is not None
        self.check_end()
        assert not cluster.living()
        assert was_finished or {s.digest for s in cluster.status.stages} == {n.digest for n in cluster.graph.nodes}
        self.check_rest()

    def check_end(self) -> None:
        assert self.cluster.status.phase == "Complete", self.cluster.status.conditions
        assert all(stage.state == "Succeeded" for stage in self.cluster.status.stages)

    def check_rest(self) -> None:
        """A finished job stays as it is, also without its children, later, and earlier."""
        cluster = self.cluster
        cluster.children.clear()
        for seconds in (0, 1e6, -1e7):
            cluster.advance(seconds)
            for observed in (cluster.observe(), Observed()):
                status, actions = reconcile(cluster.resource, cluster.graph, cluster.status, observed, cluster.now)
                assert status == cluster.status
                assert actions == ()


class AnythingFails(World):
    """With failures that count there are two ends, and both are kept."""

    failures = FREE + COUNTED + FATAL
    backoff_limit = 1

    def check_end(self) -> None:
        status = self.cluster.status
        assert is_finished(status)
        happened = {cause for (_, cause), n in self.cluster.failures.items() if n}
        if status.phase == "Failed":
            assert happened & set(COUNTED + FATAL), status.conditions
            assert any(stage.state == "Failed" for stage in status.stages)
        else:
            assert status.phase == "Complete"


class ProbeInRounds(World):
    """Candidates leave, rounds are not needed, and decisions are made again with other results."""

    @initialize(
        slots=st.sampled_from([None, 1, 2]),
        suspend=st.booleans(),
        rounds=st.integers(2, 3),
        luck=st.integers(0, 1000),
    )
    def begin(self, slots: int | None, suspend: bool, rounds: int, luck: int) -> None:
        self.cluster = Cluster(probe(rounds, suspend, backoffLimit=self.backoff_limit), slots, luck=luck)

    @precondition(lambda self: not is_finished(self.cluster.status))
    @rule(confidence=st.sampled_from([0.9, 0.95]))
    def user_changes_the_confidence(self, confidence: float) -> None:
        spec = self.cluster.resource.spec
        procedure = spec.procedure.model_copy(update={"confidence": confidence})
        changed = spec.model_copy(update={"procedure": procedure})
        self.cluster.change(self.cluster.resource.model_copy(update={"spec": changed}))

    def check_end(self) -> None:
        cluster = self.cluster
        assert cluster.status.phase == "Complete", cluster.status.conditions
        graph = graph_of(cluster.resource)
        if {s.digest for s in cluster.status.stages} == {n.digest for n in graph.nodes}:
            for stage in cluster.status.stages:
                wanted = "Skipped" if cluster.dismissed(graph, stage.name) else "Succeeded"
                assert stage.state == wanted, stage
        decisions = [stage.decision for stage in cluster.status.stages if stage.decision]
        assert cluster.status.winner == decisions[-1].leader
        assert cluster.status.outcome.outcome == decisions[-1].outcome != "continue"
        assert cluster.status.standings[0].candidate in decisions[-1].survivors


TestDisruptedWorld = World.TestCase
TestDisruptedWorld.settings = STEPS
TestProbeInRounds = ProbeInRounds.TestCase
TestProbeInRounds.settings = STEPS
TestFailingWorld = AnythingFails.TestCase
TestFailingWorld.settings = STEPS


@given(order=st.permutations(range(6)), late=st.lists(st.integers(0, 5), min_size=12, max_size=12))
@settings(max_examples=40, deadline=None)
def test_the_order_of_children_in_an_observation_does_not_matter(order: list[int], late: list[int]) -> None:
    cluster = Cluster()
    for n in late:
        cluster.look(stale_children=n)
        for child in cluster.living():
            cluster.run(child) if child.state == "pending" else cluster.succeed(child)
    observed = cluster.observe()
    mixed = [observed.children[i] for i in order if i < len(observed.children)]
    mixed += observed.children[len(order) :]
    one = reconcile(cluster.resource, cluster.graph, cluster.status, observed, cluster.now)
    other = dataclasses.replace(observed, children=tuple(mixed))
    assert reconcile(cluster.resource, cluster.graph, cluster.status, other, cluster.now) == one
