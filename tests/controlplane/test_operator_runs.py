"""Jobs and probes from apply to Complete, on a real API server and Job controller."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from kubedistill_operator.names import ATTEMPT_LABEL, STAGE_LABEL
from tests.cluster.controlplane import ControlPlane
from tests.cluster.processes import without_proxies
from tests.controlplane.operator_case import Case, Object, condition, job, probe, runtime, stages


async def test_a_job_runs_through_its_stages_to_complete(case: Case) -> None:
    await case.create(runtime(), job())
    async with case.operator():
        done = await case.finished()
    status = done["status"]
    assert condition(done, "Complete")["status"] == "True"
    assert [stage["state"] for stage in status["stages"]] == ["Succeeded"] * 7
    assert status["corpus"]["kept"] == 15
    assert status["scores"][0]["benchmark"] == "b"
    assert status["result"]["modelUri"].startswith(f"pvc://data/kubedistill/{case.namespace}/stages/train-")
    assert status["usage"]["gpuSeconds"] == 7 * 1.5
    assert status["runtime"]["name"] == "runtime"
    assert status["summary"]["score"]
    jobs = await case.all("Job")
    assert sorted(item["metadata"]["labels"][STAGE_LABEL] for item in jobs) == sorted(stages(done))
    assert {item["metadata"]["labels"][ATTEMPT_LABEL] for item in jobs} == {"0"}


async def test_the_events_tell_the_story(case: Case) -> None:
    await case.create(runtime(), job())
    async with case.operator():
        await case.finished()
        events = await case.events("DistillationJob", "Complete")
    reasons = [event["reason"] for event in events]
    assert reasons.count("StageSucceeded") == 7
    assert reasons.count("Complete") == 1
    # Without nodes the scheduler complains of every pod until the player takes it.
    assert {event["reason"] for event in events if event["type"] == "Warning"} <= {"Unschedulable"}


async def test_the_plugin_of_kubectl_shows_a_job_to_its_end(case: Case, control_plane: ControlPlane) -> None:
    folders = [control_plane.programs["kubectl"].parent, Path(sys.executable).parent, "/usr/bin", "/bin"]
    environment = without_proxies() | {"KUBECONFIG": case.kubeconfig, "PATH": os.pathsep.join(map(str, folders))}
    await case.create(runtime(), job(suspend=True))
    async with case.operator():
        watch = await asyncio.create_subprocess_exec(
            "kubectl", "distill", "watch", "demo", "-n", case.namespace, stdout=subprocess.PIPE, env=environment
        )
        assert watch.stdout
        assert f"DistillationJob {case.namespace}/demo" in (await watch.stdout.readline()).decode()
        # Once it has suspended the job, the operator does not write in between.
        await case.until("DistillationJob", "demo", lambda status: status.get("phase") == "Suspended")
        await case.patch("DistillationJob", "demo", {"suspend": False})
        out, _ = await watch.communicate()
    assert watch.returncode == 0
    text = out.decode()
    assert f"DistillationJob {case.namespace}/demo: Complete" in text
    assert re.search(r"train +done in", text)
    assert "questions 10 → sampled 40 → well-formed 39 → correct 30 → hard 20 → kept 15" in text


async def test_a_finished_job_stays_finished_without_its_children(case: Case) -> None:
    await case.create(runtime(), job())
    async with case.operator():
        done = await case.finished()
    for item in await case.all("Job"):
        await case.cluster.delete("Job", case.namespace, item["metadata"]["name"], {})
    await case.gone("Job")
    async with case.operator():
        await case.create(job("other"))
        await case.finished("other")
        again = await case.get("DistillationJob", "demo")
    assert again["metadata"]["resourceVersion"] == done["metadata"]["resourceVersion"]


async def test_a_probe_ranks_its_candidates_and_a_job_takes_the_winner(case: Case) -> None:
    taking = job(teacher={"probeRef": {"name": "probe"}, "sampling": {"samples": 1, "maxTokens": 128}})
    await case.create(runtime(), taking)
    async with case.operator():
        waiting = await case.until("DistillationJob", "demo", lambda s: bool(s.get("conditions")))
        assert condition(waiting, "Progressing")["reason"] == "ProbeNotFound"
        await case.create(probe())
        ranked = await case.finished("probe", "TeacherProbe")
        done = await case.finished()
    standings = ranked["status"]["standings"]
    assert [s["score"] for s in standings] == sorted((s["score"] for s in standings), reverse=True)
    winner = ranked["status"]["winner"]
    assert winner == standings[0]["candidate"]
    assert stages(done)["sample"]["digest"] == stages(ranked)[f"sample-{winner}"]["digest"]
    assert done["status"]["summary"]["teacher"].endswith(winner)


async def test_candidates_that_left_have_no_pods_in_later_rounds_and_a_tie_is_told(case: Case) -> None:
    taking = job(teacher={"probeRef": {"name": "probe"}, "sampling": {"samples": 1, "maxTokens": 128}})
    await case.create(runtime(), probe(procedure={"rounds": 2}))
    async with case.operator():
        ranked = await case.finished("probe", "TeacherProbe")
        await case.create(taking)
        done = await case.finished()
        events = await case.events("DistillationJob", "Complete")
    skipped = {name for name, one in stages(ranked).items() if one["state"] == "Skipped"}
    assert skipped == {f"{kind}-terse-r2" for kind in ("sample", "curate", "train", "evaluate")}
    jobs = [item for item in await case.all("Job") if item["metadata"]["ownerReferences"][0]["kind"] == "TeacherProbe"]
    assert {item["metadata"]["labels"][STAGE_LABEL] for item in jobs} == stages(ranked).keys() - skipped
    assert condition(ranked, "Complete")["reason"] == "Tie"
    assert ranked["status"]["outcome"]["tied"] == ["careless-teacher", "a"]
    assert stages(done)["sample"]["digest"] == stages(ranked)["sample-careless-teacher-r2"]["digest"]
    assert [e["message"] for e in events if e["reason"] == "TeacherTied"] == [
        "the teacher is careless-teacher, the best estimate of TeacherProbe probe: tie between careless-teacher and a"
    ]


async def test_a_runtime_bounds_the_stages_that_run_at_once(case: Case) -> None:
    await case.create(runtime(limits={"maxParallelStages": 1}), probe())
    most = 0

    def counted(pod: Object) -> Object | None:
        nonlocal most
        status = case.player.succeed(pod)
        if status and status["phase"] == "Running":
            running.add(pod["metadata"]["labels"][STAGE_LABEL])
        elif status:
            running.discard(pod["metadata"]["labels"][STAGE_LABEL])
        most = max(most, len(running))
        return status

    running: set[str] = set()
    case.player.script = counted
    async with case.operator():
        await case.finished("probe", "TeacherProbe")
    assert most == 1


async def test_deleting_a_job_removes_all_that_was_made_for_it(case: Case) -> None:
    await case.create(runtime(), job())
    case.player.hold("train")
    async with case.operator():
        await case.until("DistillationJob", "demo", lambda s: s.get("summary", {}).get("stage") == "train")
        await case.cluster.delete("DistillationJob", case.namespace, "demo", {})
        for kind in ("Job", "ConfigMap", "Pod", "Service"):
            await case.gone(kind)
