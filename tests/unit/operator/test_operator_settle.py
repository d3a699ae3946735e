"""What a study began with stays decided, whatever its resource says later."""

from typing import Any

from kubedistill_api.base import API_VERSION
from kubedistill_api.planning import plan
from kubedistill_api.study import DistillationStudy
from kubedistill_operator.cluster import NotFound
from kubedistill_operator.settle import Settled, Settler, as_settled, departure
from kubedistill_operator.store import Store

NAMESPACE = "team-a"
GRID = {"training.learningRate": [1e-5, 1e-4]}


class FakeCluster:
    """Keeps ConfigMaps."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        if name not in self.kept:
            raise NotFound(404, "NotFound", name)
        return self.kept[name]

    async def create(self, item: dict[str, Any]) -> dict[str, Any]:
        made = {**item, "metadata": item["metadata"] | {"uid": "c", "resourceVersion": "1"}}
        self.kept[item["metadata"]["name"]] = made
        return made


def study(**spec: object) -> DistillationStudy:
    job = {
        "questions": [{"uri": "hf://org/questions"}],
        "teacher": {"model": {"uri": "hf://org/teacher"}},
        "student": {"uri": "hf://org/student"},
        "evaluation": {"benchmarks": [{"name": "b", "uri": "hf://org/b"}]},
    }
    own: dict[str, Any] = {
        "job": job,
        "ladder": ["all", "right"],
        "variants": [{"name": "long", "overrides": {"training.epochs": 9}}],
        "reference": "right",
        "seeds": [0],
        "grid": GRID,
        "runtimeRef": {"name": "gpu"},
    }
    meta = {"name": "demo", "namespace": NAMESPACE, "uid": "0b5c"}
    return DistillationStudy.model_validate({"metadata": meta, "spec": own | spec})


def store() -> Store:
    found = Store()
    kind = "ClusterDistillationRuntime"
    metadata = {"name": "gpu", "uid": "r", "resourceVersion": "1"}
    spec = {"image": "i", "storage": {"uri": "pvc://data/x"}}
    found.put(kind, {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})
    return found


async def begun(settler: Settler, resource: DistillationStudy) -> Settled:
    settled = await settler.settle(resource)
    assert isinstance(settled, Settled)
    return settled


async def test_a_grid_that_was_changed_is_told_and_its_stages_stay_those_of_the_beginning() -> None:
    cluster, known = FakeCluster(), store()
    first = await begun(Settler(cluster, known), study())  # type: ignore[arg-type]
    assert departure(study(), first) is None
    changed = study(grid={"training.learningRate": [1e-5, 1e-3]})
    assert plan(changed) != first.graph
    # From the ConfigMap, as an operator that has just begun.
    settled = await begun(Settler(cluster, known), changed)  # type: ignore[arg-type]
    assert settled.graph == first.graph
    hold = departure(changed, settled)
    assert hold is not None
    assert (hold.reason, hold.final) == ("SpecChanged", False)
    assert hold.message.startswith("spec.grid changed after the study had begun, and the change is not followed")
    assert plan(as_settled(changed, settled)) == first.graph
    assert departure(study(), settled) is None


async def test_overrides_are_kept_as_well_and_how_a_study_is_run_may_change() -> None:
    cluster, known = FakeCluster(), store()
    settler = Settler(cluster, known)  # type: ignore[arg-type]
    await begun(settler, study())
    other = study(variants=[{"name": "long", "overrides": {"training.epochs": 8}}])
    hold = departure(other, await begun(settler, other))
    assert hold is not None
    assert hold.message.startswith("spec.variants changed")
    stopped = study(suspend=True, ttlSecondsAfterFinished=5)
    settled = await begun(settler, stopped)
    assert departure(stopped, settled) is None
    spec = as_settled(stopped, settled).spec
    assert (spec.suspend, spec.ttl_seconds_after_finished) == (True, 5)
