"""Plays the nodes: pods of stages run and end as they are told, by their status alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import aiohttp

from kubedistill_api.comparison import ArmResult, Comparison
from kubedistill_api.decision import Decision, RoundScore
from kubedistill_api.stage import ArmStages, CompareParams, DecideParams, StageResult, StageSpec
from kubedistill_api.status import Artifact, Score, ScoreDelta, Usage
from kubedistill_operator.children import RUNTIME_KEY, STUDY_KEY, TEACHER_KEY
from kubedistill_operator.cluster import Cluster, Conflict, NotFound, Unavailable
from kubedistill_operator.names import INDEX_LABEL, SELECTOR, STAGE_LABEL

Object = dict[str, Any]
Script = Callable[[Object], Object | None]
"""From a pod to its status, or None to leave it as it is. Asked again and again."""

EVERY_S = 0.05


def running(pod: Object) -> Object:
    """The status of a pod that runs."""
    return {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "startTime": _now(),
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [_container(pod, {"running": {"startedAt": _now()}}, ready=True)],
    }


def pending(pod: Object, reason: str, message: str = "") -> Object:
    """The status of a pod whose container waits."""
    waiting = {"reason": reason, "message": message}
    return {"phase": "Pending", "containerStatuses": [_container(pod, {"waiting": waiting})]}


def unschedulable(pod: Object, message: str) -> Object:
    """The status of a pod that finds no node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def ended(pod: Object, exit_code: int, message: str = "", reason: str = "") -> Object:
    """The status of a pod that ended."""
    terminated = {"exitCode": exit_code, "message": message, "startedAt": _now(), "finishedAt": _now()}
    terminated["reason"] = reason or ("Completed" if exit_code == 0 else "Error")
    return {
        "phase": "Failed" if exit_code else "Succeeded",
        "startTime": _now(),
        "containerStatuses": [_container(pod, {"terminated": terminated})],
    }


def disrupted(pod: Object, reason: str) -> Object:
    """The status of a pod that was taken away."""
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": f"told {reason}"}
    return ended(pod, 143) | {"conditions": [condition]}


def result(spec: StageSpec) -> StageResult:
    """What the stage would leave; figures of its kind, the same every time."""
    outputs = {"model": "model"} if spec.params.kind == "train" else {}
    if spec.params.kind == "report":
        outputs = {"report": "report.html"}
    scores = spec.params.kind == "evaluate"
    student = 0.4 + 0.1 * (len(spec.stage) % 5)
    now = datetime.now(UTC)
    return StageResult(
        stage=spec.stage,
        kind=spec.params.kind,
        digest=spec.digest,
        outputs={name: Artifact(uri=uri, digest="sha256:0") for name, uri in outputs.items()},
        metrics={"questions": 10, "sampled": 40, "well_formed": 39, "correct": 30, "hard": 20, "kept": 15}
        if spec.params.kind == "curate"
        else {},
        scores=[Score(benchmark="b", model="student", metric="avg@2", n=5, mean=student, ci=(0.1, 0.9))]
        if scores
        else [],
        deltas=[ScoreDelta(benchmark="b", metric="avg@2", mean=student - 0.3, ci=(0, 0.5))] if scores else [],
        decision=decision(spec.params) if isinstance(spec.params, DecideParams) else None,
        comparison=comparison(spec.params) if isinstance(spec.params, CompareParams) else None,
        usage=Usage(gpu_seconds=1.5),
        started=now,
        finished=now,
    )


def decision(params: DecideParams) -> Decision:
    """The last candidate leaves first; in the end it is a tie of the first two."""
    names = list(params.students)[: 2 if params.round > 1 else None]
    return Decision(
        round=params.round,
        outcome="tie" if params.round == params.rounds else "continue",
        leader=names[0],
        survivors=names[:2],
        scores=[RoundScore(candidate=name, score=0.6, ci=(0.5, 0.7)) for name in names],
        confidence=params.confidence,
        questions=5,
        samples=2,
        reason=f"tie between {names[0]} and {names[1]}",
    )


def comparison(params: CompareParams) -> Comparison:
    """Each variant is five points behind the one before it in the manifest."""
    scores = {name: 0.8 - 0.05 * number for number, name in enumerate(params.order)}
    return Comparison(
        arms=[arm_result(name, params.arms[name], scores) for name in params.order],
        confidence=params.confidence,
        comparisons=sum(arm.against is not None for arm in params.arms.values()),
        benchmark_questions=5,
        samples=2,
        seeds=len(params.arms[params.order[0]].trains),
        front_training=params.order[:1],
        front_response=params.order[:1],
    )


def arm_result(name: str, stages: ArmStages, scores: dict[str, float]) -> ArmResult:
    difference = scores[name] - scores[stages.against] if stages.against else None
    return ArmResult(
        arm=name,
        settings=stages.settings,
        score=scores[name],
        ci=(scores[name] - 0.1, scores[name] + 0.1),
        against=stages.against,
        difference=difference,
        difference_ci=None if difference is None else (difference - 0.02, difference + 0.02),
        questions=10,
        traces=15,
        steps=3,
        training_tokens=1000,
        response_tokens=50,
    )


class Player:
    """The nodes of a control plane that has none."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.script: Script = self.succeed
        self._cluster = cluster
        self._namespace = namespace
        self._specs: dict[tuple[str, str], StageSpec] = {}
        self._hold: set[str] = set()
        self.lost: set[str] = set()
        """Nodes that are away: nothing happens to their pods."""

    def hold(self, stage: str) -> None:
        """The stage's pods run and do not end."""
        self._hold.add(stage)

    def let_go(self, stage: str) -> None:
        self._hold.discard(stage)

    def succeed(self, pod: Object) -> Object | None:
        """First it runs, then it ends well, index 0 with the stage's result."""
        if pod["status"].get("phase") in ("Succeeded", "Failed"):
            return None
        if pod["status"].get("phase") != "Running":
            return running(pod)
        if stage_of(pod) in self._hold:
            return None
        first = pod["metadata"]["labels"].get(INDEX_LABEL) == "0"
        return ended(pod, 0, result(self.spec(pod)).termination_message() if first else "")

    def spec(self, pod: Object) -> StageSpec:
        """What the pod was told to do."""
        volume = next(v for v in pod["spec"]["volumes"] if v["name"] == "kubedistill-spec")["configMap"]
        return self._specs[volume["name"], volume["items"][0]["key"]]

    async def run(self) -> None:
        """Plays until it is cancelled."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, Unavailable):
                await self._once()
            await asyncio.sleep(EVERY_S)

    async def _once(self) -> None:
        pods, _ = await self._cluster.list_all("Pod", self._namespace, labelSelector=SELECTOR)
        for pod in pods:
            with contextlib.suppress(NotFound, Conflict):
                await self._play(pod)

    async def _play(self, pod: Object) -> None:
        metadata = pod["metadata"]
        if pod["spec"].get("nodeName") in self.lost:
            return
        if metadata.get("deletionTimestamp"):
            target = f"api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
            await self._cluster._request("DELETE", target, {"gracePeriodSeconds": "0"})
            return
        name = next(v for v in pod["spec"]["volumes"] if v["name"] == "kubedistill-spec")["configMap"]["name"]
        if not any(known == name for known, _ in self._specs):
            config = await self._cluster.get("ConfigMap", metadata["namespace"], name)
            for key, text in config["data"].items():
                if key not in (RUNTIME_KEY, TEACHER_KEY, STUDY_KEY):
                    self._specs[name, key] = StageSpec.model_validate_json(text)
        status = self.script(pod)
        if status:
            target = f"api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
            await self._cluster._request("PUT", target, {}, {**pod, "status": pod["status"] | status})


def stage_of(pod: Object) -> str:
    return str(pod["metadata"]["labels"][STAGE_LABEL])


@contextlib.asynccontextmanager
async def playing(cluster: Cluster, namespace: str) -> AsyncIterator[Player]:
    """A player at work."""
    player = Player(cluster, namespace)
    async with at_work(player.run()):
        yield player


@contextlib.asynccontextmanager
async def at_work(run: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """What plays a part of the cluster, until the end of the block. Raises what it died of."""
    task = asyncio.create_task(run)
    try:
        yield
    finally:
        died = task.done()
        task.cancel()
        await asyncio.wait({task})
        if died:
            task.result()


def _container(pod: Object, state: Object, *, ready: bool = False) -> Object:
    image = pod["spec"]["containers"][0]["image"]
    started = "running" in state
    base = {"name": "stage", "image": image, "imageID": image, "restartCount": 0, "ready": ready, "started": started}
    return base | {"state": state}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
