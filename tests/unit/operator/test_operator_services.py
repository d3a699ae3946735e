"""The Services of stages with several pods go when their Jobs do."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from kubedistill_operator.app import App
from kubedistill_operator.children import is_of_a_job
from kubedistill_operator.cluster import Cluster
from kubedistill_operator.names import DIGEST_LABEL, STAGE_LABEL, UID_LABEL
from kubedistill_operator.settings import Settings


def item(kind: str, name: str, *, age_s: float = 3600, owner: str = "DistillationJob") -> dict:
    created = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat()
    metadata = {
        "name": name,
        "namespace": "team-a",
        "uid": f"uid-{kind}-{name}",
        "resourceVersion": "7",
        "creationTimestamp": created,
        "labels": {UID_LABEL: "gone", STAGE_LABEL: "train", DIGEST_LABEL: "d"},
        "ownerReferences": [{"kind": owner, "name": "demo", "uid": "u"}],
    }
    return {"metadata": metadata, "spec": {}}


class Kept(Cluster):
    """An API server with a few objects, which notes what is changed."""

    def __init__(self, **items: list[dict]) -> None:
        self.writes: Counter[str] = Counter()
        self.items = items
        self.replaced: list[dict] = []
        self.deleted: list[str] = []

    async def pages(self, kind, namespace=None, **query):
        yield self.items.get(kind, []), 9

    async def replace(self, item):
        self.replaced.append(item)
        return item

    async def delete(self, kind, namespace, name, preconditions):
        self.deleted.append(name)


async def test_services_are_given_to_their_jobs_and_removed_where_there_is_none() -> None:
    services = [
        item("Service", "running"),
        item("Service", "left-over"),
        item("Service", "just-made", age_s=1),
        item("Service", "owned", owner="Job"),
    ]
    cluster = Kept(Service=services, Job=[item("Job", "running")])
    await App(cluster, Settings()).resync()
    (given,) = cluster.replaced
    assert is_of_a_job(given)
    assert given["metadata"]["ownerReferences"][0]["uid"] == "uid-Job-running"
    assert given["metadata"]["resourceVersion"] == "7"
    assert cluster.deleted == ["left-over"]
