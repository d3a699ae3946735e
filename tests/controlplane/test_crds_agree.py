"""The API server and the models give the same answer to every manifest of the corpus."""

import asyncio

from kubedistill_operator.cluster import ApiError, Cluster, path
from tests.cluster.controlplane import ControlPlane
from tests.controlplane.manifest_corpus import Case, base, cases

AT_ONCE = 8
MORE_THAN = 300
CHANGES: dict[str, object] = {
    "questions": [{"uri": "hf://another/one"}],
    "teacher": {"probeRef": {"name": "another"}},
    "student": {"uri": "hf://another/one"},
    "output": {"uri": "pvc://another/one"},
    "curation": {"seed": 5},
    "runtimeRef": {"name": "another"},
    "training": {"epochs": 3},
    "evaluation": {"samples": 32},
}


async def test_the_api_server_and_the_models_agree(control_plane: ControlPlane) -> None:
    corpus = list(cases())
    assert len(corpus) > MORE_THAN
    cluster = await Cluster.connect(str(control_plane.kubeconfig))
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(case: Case) -> str | None:
        """What the API server says, where it is not what the models say."""
        kind = case.manifest["kind"]
        query = {"dryRun": "All", "fieldValidation": "Strict"}
        async with gate:
            try:
                await cluster._request("POST", path(kind, "default"), query, case.manifest)
                answer = None
            except ApiError as error:
                answer = str(error)
        if (answer is None) == case.accepted():
            return None
        return f"{case.what}: the API server {'accepts' if answer is None else 'refuses'} it: {answer}"

    try:
        differences = list(filter(None, await asyncio.gather(*map(ask, corpus))))
    finally:
        await cluster.close()
    assert not differences, "\n".join(differences)


async def test_a_running_resource_cannot_be_changed_but_for_what_does_not_matter(control_plane: ControlPlane) -> None:
    cluster = await Cluster.connect(str(control_plane.kubeconfig))
    manifest = base("DistillationJob")
    manifest["metadata"] |= {"name": "unchangeable", "namespace": "default"}
    try:
        made = await cluster.create(manifest)
        refused = {}
        for field, value in CHANGES.items():
            changed = {**made, "spec": {**made["spec"], field: value}}
            try:
                await cluster.replace(changed)
            except ApiError as error:
                refused[field] = str(error)
        assert set(refused) == set(CHANGES)
        assert all(f"{field} cannot be changed" in message for field, message in refused.items()), refused
        allowed = {"suspend": True, "ttlSecondsAfterFinished": 7, "priorityClassName": "low"}
        after = await cluster.replace({**made, "spec": made["spec"] | allowed})
        assert after["spec"]["suspend"] is True
    finally:
        await cluster.delete("DistillationJob", "default", "unchangeable", {})
        await cluster.close()
