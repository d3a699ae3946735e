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


def test_what_is_newer_and_says_nothing_new_is_no_news_but_its_version_is_known() -> None:
    store, item = Store(), {"metadata": {"name": "x", "namespace": "a", "uid": "1"}, "spec": {"suspend": False}}
    seen = []
    for version, active in (("7", 0), ("8", 1), ("6", 2)):
        metadata = item["metadata"] | {"resourceVersion": version, "managedFields": [version]}
        seen.append(store.put("Job", item | {"metadata": metadata, "status": {"active": active}}))
        kept = store.get("Job", "a", "x")
        seen.append(kept and kept["metadata"]["resourceVersion"])
    assert seen == [True, "7", False, "8", False, "8"]
    assert store.put("Job", item | {"metadata": item["metadata"] | {"resourceVersion": "9"}, "spec": {"suspend": True}})


def test_an_object_made_anew_under_its_name_is_news() -> None:
    store, item = Store(), {"metadata": {"name": "x", "namespace": "a", "uid": "1", "resourceVersion": "1"}, "spec": {}}
    again = item | {"metadata": item["metadata"] | {"uid": "2", "resourceVersion": "2"}}
    assert store.put("Job", item)
    assert store.put("Job", again)
    store.drop("Job", item)
    assert (store.get("Job", "a", "x") or {})["metadata"]["uid"] == "2"
