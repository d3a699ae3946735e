"""What the store keeps of objects."""

import json

from kubedistill_operator.names import STAGE_LABEL, UID_LABEL
from kubedistill_operator.slim import slim

METADATA = {
    "name": "a",
    "namespace": "team-a",
    "uid": "u",
    "resourceVersion": "7",
    "generation": 2,
    "labels": {UID_LABEL: "owner", STAGE_LABEL: "train", "pod-template-hash": "x"},
    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{...}", "team": "a"},
    "managedFields": [{"manager": "m"}],
}


def test_of_children_the_template_and_who_owns_which_field_are_let_go() -> None:
    for kind, spec in (("Job", {"parallelism": 2, "template": {}}), ("Pod", {"nodeName": "n", "containers": [{}]})):
        kept = slim(kind, {"metadata": METADATA, "spec": spec, "status": {"conditions": [{"type": "Initialized"}]}})
        assert kept["metadata"]["labels"] == {UID_LABEL: "owner", STAGE_LABEL: "train"}
        assert {"managedFields", "annotations"}.isdisjoint(kept["metadata"])
        assert kept["spec"].keys() == spec.keys() - {"template", "containers"}
    assert "data" not in slim("ConfigMap", {"metadata": METADATA, "data": {"runtime.json": "{}"}})


def test_of_resources_spec_and_status_are_kept_and_the_object_itself_is_not_touched() -> None:
    item = {"metadata": METADATA, "apiVersion": "v1alpha1", "spec": {"a": [{"b": 1}]}, "status": {"phase": "Running"}}
    before = json.dumps(item)
    kept = slim("DistillationJob", item)
    assert (kept["spec"], kept["status"], kept["kind"]) == (item["spec"], item["status"], "DistillationJob")
    assert kept["metadata"]["annotations"] == {"team": "a"}
    assert json.dumps(item) == before
