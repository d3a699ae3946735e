"""What a namespace cost, as counters; who waits, and for how long; and series that begin at 0."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from kubedistill_api.advance import VANISHED
from kubedistill_api.observed import Cause, Child
from kubedistill_api.retries import TRY_AGAINS, RetryPolicy, after_failure, given_back
from kubedistill_api.status import JobStatus, StageStatus, Usage
from kubedistill_operator.metrics import CAUSES, Metrics
from kubedistill_operator.names import STAGE_LABEL, UID_LABEL
from kubedistill_operator.store import Key, Store
from kubedistill_operator.workqueue import WorkQueue

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEY = Key("DistillationJob", "team-a", "demo")
SPENT = Usage(
    gpu_seconds=2.5, cpu_seconds=7, prompt_tokens=10, completion_tokens=20, training_tokens=30, stored_bytes=40
)
BY_NAMESPACE = {
    "kubedistill_gpu_seconds_total": 2.5,
    "kubedistill_stored_bytes_total": 40,
    "kubedistill_tokens_total/read": 10,
    "kubedistill_tokens_total/drawn": 20,
    "kubedistill_tokens_total/trained": 30,
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(Store(), WorkQueue(), SimpleNamespace(writes={}))


def value(metrics: Metrics, series: str, namespace: str = "team-a") -> float | None:
    name, _, what = series.partition("/")
    labels = {"namespace": namespace} | ({"what": what} if what else {})
    return metrics.registry.get_sample_value(name, labels)


def test_what_is_spent_is_counted_once_by_namespace(metrics: Metrics) -> None:
    metrics.changed(KEY, JobStatus(), JobStatus())
    assert {series: value(metrics, series) for series in BY_NAMESPACE} == dict.fromkeys(BY_NAMESPACE, 0)
    metrics.changed(KEY, JobStatus(), JobStatus(usage=SPENT))
    metrics.changed(KEY, JobStatus(usage=SPENT), JobStatus(usage=SPENT))
    assert {series: value(metrics, series) for series in BY_NAMESPACE} == BY_NAMESPACE
    assert value(metrics, "kubedistill_gpu_seconds_total", "team-b") is None


def test_a_status_that_was_set_back_takes_nothing_off(metrics: Metrics) -> None:
    metrics.changed(KEY, JobStatus(), JobStatus(usage=SPENT))
    metrics.changed(KEY, JobStatus(usage=SPENT), JobStatus())
    assert {series: value(metrics, series) for series in BY_NAMESPACE} == BY_NAMESPACE


def test_resources_of_a_namespace_share_its_series(metrics: Metrics) -> None:
    for name in ("one", "two"):
        metrics.changed(Key("TeacherProbe", "team-a", name), JobStatus(), JobStatus(usage=SPENT))
    series = [s for family in metrics.registry.collect() for s in family.samples if "namespace" in s.labels]
    assert len([s for s in series if not s.name.endswith("_created")]) == len(BY_NAMESPACE)
    assert value(metrics, "kubedistill_tokens_total/drawn") == 40


def test_the_first_failure_is_seen_by_increase(metrics: Metrics) -> None:
    """A series that begins at 1 has not increased."""
    failures = ("kubedistill_child_failures_total", {"kind": "sample", "cause": "NodeLost"})
    ends = ("kubedistill_finished_total", {"kind": "TeacherProbe", "outcome": "Failed"})
    assert [metrics.registry.get_sample_value(*series) for series in (failures, ends)] == [0, 0]
    lost = StageStatus(name="s", kind="sample", digest="d", attempt=1, retry_after=NOW, reason="NodeLost")
    metrics.changed(Key("TeacherProbe", "a", "p"), JobStatus(), JobStatus(phase="Failed", stages=[lost]))
    assert [metrics.registry.get_sample_value(*series) for series in (failures, ends)] == [1, 1]


def test_every_reason_of_a_failed_attempt_has_its_series() -> None:
    child = Child("s", 0, "d", "failed")
    stage = StageStatus(name="s", kind="sample", digest="d", state="Running", metrics={TRY_AGAINS: 99})
    seen = {after_failure(stage, cause, "", NOW, 0, RetryPolicy()).reason for cause in Cause}
    seen |= {given_back(stage, child, NOW, RetryPolicy()).reason, VANISHED}
    assert seen <= set(CAUSES)


def resource(name: str, age: timedelta, **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "a", "uid": name, "creationTimestamp": (NOW - age).isoformat()}
    return {"metadata": metadata, "status": status}


def gauges(*resources: dict[str, Any], child: dict[str, Any] | None = None) -> dict[tuple[str, ...], float]:
    """What is served of the resources, by name and labels."""
    store = Store()
    for item in resources:
        store.put("DistillationJob", item)
    if child:
        store.put("Job", child)
    registry = Metrics(store, WorkQueue(), SimpleNamespace(writes={}), lambda: NOW).registry  # type: ignore[arg-type]
    families = ("kubedistill_pending_seconds", "kubedistill_places")
    samples = [sample for family in registry.collect() if family.name in families for sample in family.samples]
    return {(sample.name.removeprefix("kubedistill_"), *sample.labels.values()): sample.value for sample in samples}


def test_pending_is_as_old_as_the_oldest_and_0_where_none_is() -> None:
    series = ("pending_seconds", "DistillationJob", "a")
    ran = resource("ran", timedelta(days=9), phase="Running")
    assert gauges(ran) == {series: 0}
    young, old = resource("young", timedelta(hours=1), phase="Pending"), resource("old", timedelta(hours=2))
    assert gauges(ran, young, old) == {series: 7200}


def test_a_resource_that_was_suspended_is_pending_since_it_was_resumed() -> None:
    resumed = {"type": "Suspended", "status": "False", "lastTransitionTime": (NOW - timedelta(minutes=1)).isoformat()}
    late = resource("late", timedelta(days=9), phase="Pending", conditions=[resumed])
    assert gauges(late) == {("pending_seconds", "DistillationJob", "a"): 60}


def test_places_are_counted_by_runtime_and_namespace_until_the_end() -> None:
    runtime = {"kind": "ClusterDistillationRuntime", "name": "h100"}
    stages = [
        {"name": "prepare", "state": "Succeeded"},
        {"name": "sample", "state": "Running"},
        {"name": "baseline", "state": "Starting"},
        {"name": "curate", "state": "Waiting", "waitingSince": NOW.isoformat()},
        {"name": "train", "state": "Waiting"},
    ]
    job = resource("job", timedelta(0), phase="Running", runtime=runtime, stages=stages)
    series = ("places", "ClusterDistillationRuntime h100", "a")
    none = ("pending_seconds", "DistillationJob", "a")
    assert gauges(job) == {(*series, "held"): 2, (*series, "wanted"): 1, none: 0}
    stopped = resource("stopped", timedelta(0)) | {"spec": {}}
    stopped["metadata"]["labels"] = {UID_LABEL: "job", STAGE_LABEL: "train"}
    assert gauges(job, child=stopped)[*series, "held"] == 3, "its pods have not ended yet"
    job["status"]["phase"] = "Failed"
    assert gauges(job) == {(*series, "held"): 0, (*series, "wanted"): 0, none: 0}
