"""What goes wrong in a cluster, each with what the resource says and how it ends."""

from datetime import timedelta

import pytest

from kubedistill_operator import observer, rivals
from kubedistill_operator.names import ATTEMPT_LABEL
from tests.cluster.controlplane import ControlPlane
from tests.cluster.quota import enforce_quota
from tests.controlplane.operator_case import Case, condition, job, runtime, stage, stages
from tests.controlplane.player import disrupted, ended, pending, running, stage_of, unschedulable

Object = dict


def attempt(pod: Object) -> int:
    return int(pod["metadata"]["labels"][ATTEMPT_LABEL])


def failing(case: Case, stage: str, end, *, times: int = 1):
    """A script in which the first attempts of a stage end so."""

    def script(pod: Object) -> Object | None:
        if stage_of(pod) != stage or attempt(pod) >= times:
            return case.player.succeed(pod)
        phase = pod["status"].get("phase")
        if phase in ("Succeeded", "Failed"):
            return None
        return end(pod) if phase == "Running" else running(pod)

    return script


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda pod: ended(pod, 65, "questions[0]: no column 'question'"), "BadInput"),
        (lambda pod: ended(pod, 137, reason="OOMKilled"), "OutOfMemory"),
    ],
)
async def test_what_another_try_cannot_help_ends_the_job_at_once(case: Case, end, reason: str) -> None:
    case.player.script = failing(case, "prepare", end, times=99)
    await case.create(runtime(), job())
    async with case.operator():
        done = await case.finished()
    failed = condition(done, "Failed")
    assert (failed["status"], failed["reason"]) == ("True", reason)
    assert stages(done)["prepare"]["attempt"] == 0
    assert "prepare" in failed["message"]
    if reason == "BadInput":
        assert "no column 'question'" in failed["message"]


async def test_application_errors_are_tried_again_and_counted(case: Case) -> None:
    case.player.script = failing(case, "curate", lambda pod: ended(pod, 1, "Traceback: boom"))
    await case.create(runtime(), job())
    async with case.operator():
        retried = await case.until("DistillationJob", "demo", lambda s: stage(s, "curate").get("retryAfter"))
        assert "boom" in stages(retried)["curate"]["message"]
        done = await case.finished()
    assert done["status"]["phase"] == "Complete"
    assert stages(done)["curate"]["failures"] == 1
    assert stages(done)["curate"]["attempt"] == 1


async def test_too_many_application_errors_end_the_job_with_the_last_one(case: Case) -> None:
    case.player.script = failing(case, "curate", lambda pod: ended(pod, 1, "boom"), times=99)
    await case.create(runtime(), job(backoffLimit=0))
    async with case.operator():
        done = await case.finished()
    assert condition(done, "Failed")["reason"] == "BackoffLimitExceeded"
    assert "boom" in condition(done, "Failed")["message"]


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("PreemptionByScheduler", "Preempted"),
        ("EvictionByEvictionAPI", "Evicted"),
        ("DeletionByTaintManager", "NodeLost"),
    ],
)
async def test_disruptions_are_free(case: Case, reason: str, cause: str) -> None:
    case.player.script = failing(case, "train", lambda pod: disrupted(pod, reason))
    await case.create(runtime(), job(backoffLimit=0))
    async with case.operator():
        retried = await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("retryAfter"))
        assert stages(retried)["train"]["reason"] == cause
        done = await case.finished()
    assert done["status"]["phase"] == "Complete"
    assert stages(done)["train"]["failures"] == 0
    assert stages(done)["train"]["attempt"] == 1


async def test_a_pod_deleted_by_hand_is_replaced(case: Case) -> None:
    case.player.hold("train")
    await case.create(runtime(), job(backoffLimit=0))
    async with case.operator():
        await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("state") == "Running")
        (pod,) = [pod for pod in await case.all("Pod") if stage_of(pod) == "train"]
        await case.cluster.delete("Pod", case.namespace, pod["metadata"]["name"], {})
        case.player.let_go("train")
        done = await case.finished()
    assert done["status"]["phase"] == "Complete"
    assert stages(done)["train"]["failures"] == 0


async def test_a_child_and_its_config_deleted_by_hand_come_again(case: Case) -> None:
    case.player.hold("train")
    await case.create(runtime(), job())
    async with case.operator():
        await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("state") == "Running")
        (config,) = [c for c in await case.all("ConfigMap") if c["metadata"]["name"].startswith("demo-")]
        await case.cluster.delete("ConfigMap", case.namespace, config["metadata"]["name"], {})
        (child,) = [j for j in await case.all("Job") if stage_of(j) == "train"]
        await case.cluster.delete("Job", case.namespace, child["metadata"]["name"], {})
        await case.until("DistillationJob", "demo", lambda s: stage(s, "train").get("attempt") == 1)
        case.player.let_go("train")
        done = await case.finished()
        again = await case.get("ConfigMap", config["metadata"]["name"])
    assert done["status"]["phase"] == "Complete"
    assert again["data"] == config["data"]


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError"])
async def test_a_pod_that_cannot_start_says_why_and_goes_on_when_it_can(case: Case, reason: str) -> None:
    broken = True

    def script(pod: Object) -> Object | None:
        if broken and stage_of(pod) == "prepare":
            return None if pod["status"].get("containerStatuses") else pending(pod, reason, "the registry said no")
        return case.player.succeed(pod)

    case.player.script = script
    await case.create(runtime(), job())
    async with case.operator():
        stuck = await case.until("DistillationJob", "demo", lambda s: stage(s, "prepare").get("reason") == reason)
        message = condition(stuck, "Progressing")["message"]
        assert "the registry said no" in message
        assert "pod demo-prepare" in message
        broken = False
        done = await case.finished()
    assert done["status"]["phase"] == "Complete"
    assert stages(done)["prepare"]["attempt"] == 0


async def test_a_pod_without_a_place_says_so(case: Case) -> None:
    case.player.script = lambda pod: (
        None if pod["status"].get("conditions") else unschedulable(pod, "0/3 nodes are available: 3 Insufficient gpu")
    )
    await case.create(runtime(), job())
    async with case.operator():
        stuck = await case.until("DistillationJob", "demo", lambda s: stage(s, "prepare").get("reason"))
    assert stages(stuck)["prepare"]["reason"] == "Unschedulable"
    assert stuck["status"]["phase"] in ("Pending", "Running")


async def test_a_quota_holds_a_stage_up_until_there_is_room(case: Case, control_plane: ControlPlane) -> None:
    enforce_quota(control_plane, case.namespace, "none", pods="0")
    await case.create(runtime(), job())
    async with case.operator():
        stuck = await case.until("DistillationJob", "demo", lambda s: stage(s, "prepare").get("reason"))
        assert stages(stuck)["prepare"]["reason"] == "QuotaExceeded"
        assert "exceeded quota" in condition(stuck, "Progressing")["message"]
        control_plane.kubectl("delete", "resourcequota", "none", "-n", case.namespace)
        done = await case.finished()
    assert done["status"]["phase"] == "Complete"


async def test_a_missing_runtime_is_waited_for_and_an_edited_one_does_not_touch_a_running_job(case: Case) -> None:
    await case.create(job())
    async with case.operator():
        waiting = await case.until("DistillationJob", "demo", lambda s: bool(s.get("conditions")))
        assert condition(waiting, "Progressing")["reason"] == "RuntimeNotFound"
        case.player.hold("sample")
        await case.create(runtime())
        await case.until("DistillationJob", "demo", lambda s: stage(s, "sample").get("state") == "Running")
        await case.patch("DistillationRuntime", "runtime", {"image": "another:image"})
        case.player.let_go("sample")
        await case.finished()
        jobs = await case.all("Job")
    images = {item["spec"]["template"]["spec"]["containers"][0]["image"] for item in jobs}
    assert images == {runtime()["spec"]["image"]}


async def test_the_deadline_of_a_job_ends_it(case: Case) -> None:
    case.player.hold("sample")
    await case.create(runtime(), job(activeDeadlineSeconds=4))
    async with case.operator():
        done = await case.finished()
        assert condition(done, "Failed")["reason"] == "DeadlineExceeded"
        await case.until_jobs(lambda jobs: not any(stage_of(j) == "sample" for j in jobs))


async def test_the_deadline_of_a_stage_ends_it(case: Case) -> None:
    case.player.hold("prepare")
    await case.create(runtime(worker={"activeDeadlineSeconds": 2}), job())
    async with case.operator():
        done = await case.finished()
    assert condition(done, "Failed")["reason"] == "DeadlineExceeded"
    assert "prepare" in condition(done, "Failed")["message"]


async def test_what_only_the_cluster_can_refuse_is_refused_at_once(case: Case) -> None:
    relative = job(questions=[{"uri": "questions.jsonl"}])
    greedy = job("greedy", teacher={"model": {"uri": "hf://a/b"}, "sampling": {"samples": 64, "maxTokens": 128}})
    await case.create(runtime(limits={"maxSamples": 16}), relative, greedy)
    async with case.operator():
        paths, samples = await case.finished(), await case.finished("greedy")
    assert condition(paths, "Failed")["reason"] == "BadInput"
    assert "questions.jsonl" in condition(paths, "Failed")["message"]
    assert "at most 16" in condition(samples, "Failed")["message"]
    assert not await case.all("Job")


async def test_a_finished_job_is_deleted_after_its_time_to_live(case: Case) -> None:
    await case.create(runtime(), job(ttlSecondsAfterFinished=1))
    async with case.operator():
        for kind in ("DistillationJob", "Job", "ConfigMap"):
            await case.gone(kind)


async def test_two_jobs_do_the_same_work_once(case: Case) -> None:
    case.player.hold("prepare")
    await case.create(runtime(), job(), job("twin"))
    async with case.operator():
        for name in ("demo", "twin"):
            await case.until("DistillationJob", name, lambda s: bool(stage(s, "prepare").get("state")))
        waits = await case.until(
            "DistillationJob", await _waiting(case), lambda s: stage(s, "prepare").get("reason") == "WaitingForOtherJob"
        )
        assert "does the same work" in condition(waits, "Progressing")["message"]
        case.player.let_go("prepare")
        done = [await case.finished(name) for name in ("demo", "twin")]
    assert {item["status"]["phase"] for item in done} == {"Complete"}


async def test_work_of_a_job_that_hangs_in_a_queue_is_taken_over(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "PATIENCE", timedelta(seconds=8))
    monkeypatch.setattr(observer, "RIVAL_LOOK_S", 0.5)
    case.player.script = lambda pod: None
    await case.create(runtime(), job())
    async with case.operator():
        await case.until_jobs(lambda jobs: len(jobs) == 1)
        (child,) = await case.all("Job")
        child["spec"]["suspend"] = True
        await case.cluster.replace({**child, "kind": "Job"})
        case.player.script = case.player.succeed
        await case.create(job("twin"))
        waits = await case.until("DistillationJob", "twin", lambda s: stage(s, "prepare").get("reason"))
        message = condition(waits, "Progressing")["message"]
        assert "DistillationJob demo does the same work" in message
        assert "it waits in a queue" in message
        done = await case.finished("twin")
    assert done["status"]["phase"] == "Complete"


async def _waiting(case: Case) -> str:
    """The one of the two that has no child."""
    (child,) = [j for j in await case.all("Job") if stage_of(j) == "prepare"]
    return "twin" if child["metadata"]["name"].startswith("demo") else "demo"
