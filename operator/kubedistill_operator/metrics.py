"""Prometheus metrics of the operator."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import product
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from kubedistill_api.advance import VANISHED
from kubedistill_api.observed import Cause
from kubedistill_api.stage import STAGE_VERSIONS
from kubedistill_api.status import JobStatus, Usage
from kubedistill_operator.cluster import Cluster
from kubedistill_operator.kinds import RESOURCES
from kubedistill_operator.places import stages_held
from kubedistill_operator.store import Key, Store
from kubedistill_operator.workqueue import WorkQueue

STAGE_BUCKETS = (10, 30, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800)

TOKENS = {"prompt_tokens": "read", "completion_tokens": "drawn", "training_tokens": "trained"}
"""Fields of a usage by what the metric calls them."""
CAUSES = (*Cause, VANISHED, "BackoffLimitExceeded", "TryAgainLimitExceeded")
"""What an attempt fails for."""
OUTCOMES = ("Complete", "Failed")


class Metrics:
    """What is counted. Gauges of the present are read from the store when they are asked for."""

    def __init__(
        self,
        store: Store,
        queue: WorkQueue[Key],
        cluster: Cluster,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.registry = CollectorRegistry()
        self._reconcile = Histogram(
            "kubedistill_reconcile_seconds", "Time of one look at a resource", registry=self.registry
        )
        self._errors = Counter("kubedistill_reconcile_errors", "Looks that failed", registry=self.registry)
        self._failures = Counter(
            "kubedistill_child_failures", "Failed attempts of stages", ["kind", "cause"], registry=self.registry
        )
        self._stages = Histogram(
            "kubedistill_stage_seconds", "Time of a stage from its start to its result", ["kind"],
            buckets=STAGE_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._gpus = Counter(
            "kubedistill_gpu_seconds", "GPUs times seconds of finished stages", ["namespace"], registry=self.registry
        )
        self._tokens = Counter(
            "kubedistill_tokens", "Tokens of finished stages: read, drawn and trained on", ["namespace", "what"],
            registry=self.registry,
        )  # fmt: skip
        self._stored = Counter(
            "kubedistill_stored_bytes", "Size of what finished stages made", ["namespace"], registry=self.registry
        )
        self._finished = Counter(
            "kubedistill_finished", "Resources that ended", ["kind", "outcome"], registry=self.registry
        )
        # Series begin at 0, or `increase` would miss what they begin with: the failure that an alert is for.
        for stage, cause in product(STAGE_VERSIONS, CAUSES):
            self._failures.labels(stage, cause)
        for kind, outcome in product(RESOURCES, OUTCOMES):
            self._finished.labels(kind, outcome)
        depth = Gauge("kubedistill_queue_depth", "Resources that wait for a look", registry=self.registry)
        depth.set_function(lambda: queue.depth)
        age = Gauge("kubedistill_queue_age_seconds", "How long the oldest of them waits", registry=self.registry)
        age.set_function(lambda: queue.age)
        self.registry.register(_Writes(cluster))
        self.registry.register(_Resources(store, now))

    def reconciled(self, seconds: float) -> None:
        self._reconcile.observe(seconds)

    def failed(self) -> None:
        self._errors.inc()

    def changed(self, key: Key, before: JobStatus, after: JobStatus) -> None:
        """Counts what happened between two statuses."""
        known = {stage.name: stage for stage in before.stages}
        for stage in after.stages:
            was = known.get(stage.name)
            if stage.retry_after and (was is None or was.attempt < stage.attempt):
                self._failures.labels(stage.kind, stage.reason).inc()
            if stage.state == "Failed" and (was is None or was.state != "Failed"):
                self._failures.labels(stage.kind, stage.reason).inc()
            done = stage.state == "Succeeded" and (was is None or was.state != "Succeeded") and not stage.reused
            if done and stage.started and stage.finished:
                self._stages.labels(stage.kind).observe((stage.finished - stage.started).total_seconds())
        self._spend(key.namespace, before.usage, after.usage)
        if after.phase != before.phase and after.phase in OUTCOMES:
            self._finished.labels(key.kind, after.phase).inc()

    def _spend(self, namespace: str, before: Usage, after: Usage) -> None:
        """What a namespace spent between two statuses. Its series begin at 0, for `increase` to have it all."""
        counters = {
            "gpu_seconds": self._gpus.labels(namespace),
            "stored_bytes": self._stored.labels(namespace),
            **{name: self._tokens.labels(namespace, what) for name, what in TOKENS.items()},
        }
        for name, counter in counters.items():
            spent = getattr(after, name) - getattr(before, name)
            if spent > 0:
                counter.inc(spent)


class _Writes:
    """Requests that changed something."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily("kubedistill_api_writes", "Requests that changed something", labels=["resource"])
        for resource, n in sorted(self._cluster.writes.items()):
            family.add_metric([resource], n)
        yield family


class _Resources:
    """Resources by phase, how long they have been pending, and their places on runtimes."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    def collect(self) -> Iterable[GaugeMetricFamily]:
        phases: Tally[tuple[str, ...]] = Tally()
        waits: dict[tuple[str, ...], float] = {}
        places: Tally[tuple[str, ...]] = Tally()
        now = self._now()
        for key in self._store.resources():
            item = self._store.get(*key) or {}
            status = item.get("status") or {}
            phase = status.get("phase", "Pending")
            phases[key.kind, key.namespace, phase] += 1
            waited = (now - _pending_since(item)).total_seconds() if phase == "Pending" else 0.0
            waits[key.kind, key.namespace] = max(waited, waits.get((key.kind, key.namespace), 0.0))
            if runtime := status.get("runtime"):
                name = f"{runtime['kind']} {runtime['name']}"
                stages = status.get("stages", ()) if phase not in OUTCOMES else ()
                places[name, key.namespace, "held"] += len(stages_held(self._store, item)) if stages else 0
                places[name, key.namespace, "wanted"] += sum("waitingSince" in stage for stage in stages)
        yield _family("resources", "Resources by phase", ["kind", "namespace", "phase"], phases)
        yield _family("pending_seconds", "How long the oldest pending one has been so", ["kind", "namespace"], waits)
        about = "Stages that hold a place on a runtime, and that wait for one"
        yield _family("places", about, ["runtime", "namespace", "state"], places)


def _pending_since(item: dict[str, Any]) -> datetime:
    """Since when a pending resource may begin: since it is there, or since it was resumed."""
    conditions = (item.get("status") or {}).get("conditions", ())
    resumed = [c["lastTransitionTime"] for c in conditions if c["type"] == "Suspended"]
    return max(datetime.fromisoformat(text) for text in [item["metadata"]["creationTimestamp"], *resumed])


def _family(name: str, about: str, labels: list[str], values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"kubedistill_{name}", about, labels=labels)
    for of, value in sorted(values.items()):
        family.add_metric(of, value)
    return family
