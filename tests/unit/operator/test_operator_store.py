"""What the store takes for a resource's child."""

from kubedistill_operator.names import STAGE_LABEL, UID_LABEL
from kubedistill_operator.store import Store


def put(store: Store, kind: str, namespace: str, uid: str, **labels: str) -> None:
    store.put(kind, {"metadata": {"name": "x", "namespace": namespace, "uid": uid, "labels": labels}, "spec": {}})


def test_what_bears_a_resources_uid_in_another_namespace_is_no_child_of_it() -> None:
    store, marks = Store(), {UID_LABEL: "of-b", STAGE_LABEL: "sample"}
    put(store, "Job", "team-a", "1", **marks)
    put(store, "Job", "team-b", "2", **marks)
    put(store, "Pod", "team-a", "3", **marks)
    put(store, "DistillationJob", "team-b", "of-b")
    assert [job["metadata"]["uid"] for job in store.children("of-b", "Job")] == ["2"]
    assert store.pods_by_job("of-b") == {}
