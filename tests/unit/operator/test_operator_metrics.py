"""What a namespace cost, as counters."""

from types import SimpleNamespace

import pytest

from kubedistill_api.status import JobStatus, Usage
from kubedistill_operator.metrics import Metrics
from kubedistill_operator.store import Key, Store
from kubedistill_operator.workqueue import WorkQueue

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
