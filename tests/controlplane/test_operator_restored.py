"""Resources that come from a backup, to a cluster that never saw them, find their artifacts."""

import asyncio
import re
from datetime import timedelta
from typing import Any

import pytest

from kubedistill_api.stage import StageResult
from tests.cluster.controlplane import ControlPlane
from tests.controlplane.operator_case import Case, Object, condition, job, probe, runtime, stages, study
from tests.controlplane.player import ended, result, stage_of

AGO = timedelta(hours=1)
"""What lies in the storage was made so long before."""


class Storage:
    """A claim that outlives the cluster's objects: a stage whose result lies there finds it and ends."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._results: dict[str, StageResult] = {}
        self.made: list[str] = []
        """Stages that had to work."""
        case.player.script = self._play

    def _play(self, pod: Object) -> Object | None:
        status = self._case.player.succeed(pod)
        if not status or status["phase"] != "Succeeded":
            return status
        spec = self._case.player.spec(pod)
        if spec.digest not in self._results:
            self.made.append(stage_of(pod))
            new = result(spec)
            self._results[spec.digest] = new.model_copy(
                update={t: getattr(new, t) - AGO for t in ("started", "finished")}
            )
        return ended(pod, 0, self._results[spec.digest].termination_message())


def taking_the_winner() -> Object:
    return job(teacher={"probeRef": {"name": "probe"}, "sampling": {"samples": 1, "maxTokens": 128}})


@pytest.mark.parametrize(
    "resources",
    [[job()], [probe(procedure={"rounds": 2}), taking_the_winner()], [study()]],
    ids=["job", "probe-and-job", "study"],
)
async def test_what_is_restored_from_its_yaml_reuses_every_stage(
    case: Case, control_plane: ControlPlane, resources: list[Object]
) -> None:
    storage = Storage(case)
    await case.create(runtime(), *resources)
    async with case.operator():
        before = [await case.finished(r["metadata"]["name"], r["kind"]) for r in resources]
    made = len(storage.made)
    assert made

    # As docs/operations.md says it.
    def kubectl(*arguments: str, stdin: str | None = None) -> Any:
        return asyncio.to_thread(control_plane.kubectl, *arguments, "-n", case.namespace, stdin=stdin)

    backup = await kubectl("get", "djob,tprobe,dstudy,druntime", "-o", "yaml")
    for kind in ("DistillationRuntime", *dict.fromkeys(r["kind"] for r in resources)):
        await kubectl("delete", kind, "--all")
    for kind in ("Job", "ConfigMap", "Pod"):
        await case.gone(kind)
    await kubectl("apply", "-f", "-", stdin=re.sub(r"(?m)^ *resourceVersion: .*\n", "", backup))
    restored = [await case.get(r["kind"], r["metadata"]["name"]) for r in resources]
    assert not any("status" in item for item in restored)
    assert {i["metadata"]["uid"] for i in restored}.isdisjoint(i["metadata"]["uid"] for i in before)

    async with case.operator():
        after = [await case.finished(r["metadata"]["name"], r["kind"]) for r in resources]
    assert len(storage.made) == made, "nothing started over"
    for old, new in zip(before, after, strict=True):
        assert condition(new, "Complete")["status"] == "True"
        done = [stage for stage in stages(new).values() if stage["state"] == "Succeeded"]
        assert done
        assert all(stage["reused"] for stage in done)
        digests = [{name: stage["digest"] for name, stage in stages(item).items()} for item in (old, new)]
        assert digests[0] == digests[1]
        assert new["status"].get("usage", {}).get("gpuSeconds", 0) == 0, "what was reused costs nothing"
        for field in ("result", "scores", "winner", "standings", "comparison"):
            assert new["status"].get(field) == old["status"].get(field)
