"""The API server takes the generated CRDs whole."""

import pytest

from tests.cluster.controlplane import CRDS, ControlPlane
from tests.cluster.errors import ClusterError

KINDS = (
    "distillationjobs",
    "teacherprobes",
    "distillationstudies",
    "distillationruntimes",
    "clusterdistillationruntimes",
)


def test_every_crd_is_established_without_a_complaint(control_plane: ControlPlane) -> None:
    crds = control_plane.get("crd")["items"]
    state = {
        crd["spec"]["names"]["plural"]: {c["type"]: c["status"] for c in crd["status"]["conditions"]} for crd in crds
    }
    assert set(KINDS) == set(state)
    for kind, conditions in state.items():
        assert conditions["Established"] == "True", kind
        assert conditions["NamesAccepted"] == "True", kind
        assert conditions.get("NonStructuralSchema") != "True", kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_stored_schema_is_the_generated_one(control_plane: ControlPlane, kind: str) -> None:
    difference = control_plane.kubectl("diff", "--server-side", "--filename", CRDS / f"{kind}.yaml")
    assert difference == ""


@pytest.mark.parametrize("kind", KINDS)
def test_explain_describes_every_field_of_the_spec(control_plane: ControlPlane, kind: str) -> None:
    text = control_plane.kubectl("explain", f"{kind}.spec")
    assert "<no description>" not in text


def test_a_field_that_the_schema_does_not_have_is_refused(control_plane: ControlPlane, namespace: str) -> None:
    manifest = {
        "apiVersion": "kubedistill.io/v1alpha1",
        "kind": "DistillationRuntime",
        "metadata": {"name": "misspelt", "namespace": namespace},
        "spec": {"smapler": {}},
    }
    with pytest.raises(ClusterError, match="smapler"):
        control_plane.apply(manifest)
