"""Jobs and a probe in real pods: vLLM on Ray over two pods, FSDP2 over two pods, kills, and what goes wrong."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.host_runtime import host_runtime
from tests.cluster.processes import wait_until
from tests.node.node_case import (
    JOB,
    NodeCase,
    losses,
    metrics,
    newest_checkpoint,
    recorded,
    rows,
    run_locally,
    stage_folder,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

Object = dict[str, Any]

STAGE_S = 900.0
"""Within which a stage ends on a busy machine: nothing is gained by giving up early."""


def runtime_here() -> Object:
    """The runtime `host` for one machine: one engine draws what two pods draw; losses depend on the ranks' number."""
    return {**host_runtime(), "spec": {"trainer": {"replicas": 2}}}


def stages(item: Object) -> dict[str, Object]:
    return {stage["name"]: stage for stage in item["status"]["stages"]}


def condition(item: Object, kind: str) -> Object:
    return next((c for c in item["status"]["conditions"] if c["type"] == kind), {})


def attempt(status: Object, stage: str) -> int:
    return next((s["attempt"] for s in status.get("stages", ()) if s["name"] == stage), 0)


def state(status: Object, stage: str) -> str:
    return next((s["state"] for s in status.get("stages", ()) if s["name"] == stage), "")


def changed(name: str, **spec: Object) -> Object:
    """The job of these tests with another name and other fields."""
    job: Object = yaml.safe_load(JOB)
    return {**job, "metadata": {"name": name}, "spec": job["spec"] | spec}


def test_killed_in_pods_a_job_ends_as_it_does_on_one_machine(case: NodeCase, tmp_path: Path) -> None:
    expected = run_locally(tmp_path, JOB, runtime_here())
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"moments of seed {seed}")
    dice = random.Random(seed)
    case.apply(JOB)
    case.kill_pod("sample", 0, dice.uniform(0, 25))
    sampled = recorded(case.storage)
    case.until("djob/demo", lambda status: attempt(status, "sample") == 1, STAGE_S)
    case.until("djob/demo", lambda status: status["summary"]["stage"] in ("curate", "train"), STAGE_S)
    case.kill_operator()
    case.start_operator()
    # A moment before the first checkpoint would show no more than that the stage starts anew.
    wait_until(lambda: newest_checkpoint(case.storage) > 0, "the first checkpoint", STAGE_S)
    case.kill_pod("train", dice.randrange(2), dice.uniform(0, 3))
    trained = newest_checkpoint(case.storage)
    case.until("djob/demo", lambda status: attempt(status, "train") == 1, STAGE_S)
    done = case.finished("djob/demo", STAGE_S)

    assert done["status"]["phase"] == "Complete", case.kubectl("describe", "djob/demo")
    assert [stage["attempt"] for stage in stages(done).values()] == [0, 0, 1, 0, 1, 0, 0]
    assert metrics(case.storage, "sample")["resumed_from"] >= sampled
    assert metrics(case.storage, "train")["resumed_from_step"] >= trained
    for stage, file in (("sample", "traces.parquet"), ("curate", "corpus.parquet")):
        assert rows(stage_folder(case.storage, stage) / file) == rows(stage_folder(expected, stage) / file)
    assert losses(case.storage) == losses(expected)
    local = json.loads((expected / "jobs" / "DistillationJob" / "demo" / "status.json").read_text())
    assert done["status"]["scores"] == local["scores"]


def test_a_probe_ranks_three_candidates_and_a_job_takes_the_winner_and_its_work(case: NodeCase) -> None:
    # Pods that share two cores: with one for each stage it takes half the time.
    case.node.cluster.apply(host_runtime("single"))
    job = yaml.safe_load(JOB)["spec"]
    shared = {key: job[key] for key in ("questions", "student", "evaluation")} | {
        "runtimeRef": {"kind": "ClusterDistillationRuntime", "name": "single"},
        "training": job["training"] | {"epochs": 4},
    }
    sampling = {"samples": 2, "temperature": 1.0, "topP": 1.0, "maxTokens": 128}
    candidates = [
        {"name": name.partition("-")[0], "model": {"uri": f"embedded://models/{name}"}}
        | {"engine": job["teacher"]["engine"]}
        for name in ("careless-teacher", "terse-teacher", "student")
    ]
    head = {"apiVersion": "kubedistill.io/v1alpha1", "kind": "TeacherProbe", "metadata": {"name": "which"}}
    probe = head | {"spec": shared | {"candidates": candidates, "sampling": sampling}}
    taking = head | {
        "kind": "DistillationJob",
        "metadata": {"name": "taking"},
        "spec": shared | {"teacher": {"probeRef": {"name": "which"}, "sampling": sampling}},
    }
    case.apply(taking)
    waiting = case.until("djob/taking", lambda status: bool(status.get("conditions")), STAGE_S)
    assert condition(waiting, "Progressing")["reason"] == "ProbeNotFound"
    case.apply(probe)
    ranked = case.finished("tprobe/which", 3 * STAGE_S)
    assert ranked["status"]["phase"] == "Complete", case.kubectl("describe", "tprobe/which")
    assert len(ranked["status"]["standings"]) == len(candidates)
    assert all(stage["attempt"] == 0 for stage in stages(ranked).values())

    done = case.finished("djob/taking", STAGE_S)
    assert done["status"]["phase"] == "Complete", case.kubectl("describe", "djob/taking")
    winner = ranked["status"]["winner"]
    assert winner in done["status"]["summary"]["teacher"]
    of_winner = {name.removesuffix(f"-{winner}"): stage["digest"] for name, stage in stages(ranked).items()}
    shared_work = [stage for name, stage in stages(done).items() if name != "report"]
    assert {stage["digest"] for stage in shared_work} <= set(of_winner.values())
    student = next(score for score in done["status"]["scores"] if score["model"] == "student")
    assert ranked["status"]["standings"][0]["score"] == round(student["mean"], 4)  # as a decision keeps it


def test_a_deleted_job_is_gone_with_all_its_pods(case: NodeCase) -> None:
    case.apply(JOB)
    case.until("djob/demo", lambda status: state(status, "sample") == "Running", STAGE_S)
    case.kubectl("delete", "djob/demo")

    def is_empty() -> bool:
        kinds = "djob,jobs,pods,services,configmaps"
        return [i for i in case.get(kinds)["items"] if i["metadata"]["name"] != "kube-root-ca.crt"] == []

    wait_until(is_empty, "everything to be gone", detail=lambda: case.kubectl("get", "pods,jobs"))


def test_memory_beyond_the_limit_ends_the_job_and_says_so(case: NodeCase) -> None:
    runtime = host_runtime("small")
    runtime["spec"]["worker"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "24Mi"}}
    case.node.cluster.apply(runtime)
    case.apply(changed("fat", runtimeRef={"kind": "ClusterDistillationRuntime", "name": "small"}))
    done = case.finished("djob/fat", STAGE_S)
    failed = condition(done, "Failed")
    assert failed["reason"] == "OutOfMemory"
    assert "used more memory than its limit" in failed["message"]


def test_data_that_is_not_there_ends_the_job_with_its_message(case: NodeCase) -> None:
    case.apply(changed("blind", questions=[{"uri": "pvc://storage/nowhere.jsonl", "domain": "math"}]))
    done = case.finished("djob/blind", STAGE_S)
    assert condition(done, "Failed")["reason"] == "BadInput"
    assert "nowhere.jsonl" in condition(done, "Failed")["message"]
    assert stages(done)["prepare"]["attempt"] == 0


def test_an_image_that_cannot_be_pulled_is_named(case: NodeCase) -> None:
    runtime = host_runtime("elsewhere")
    container = runtime["spec"]["worker"]["template"]["spec"]["containers"][0]
    container |= {"image": "registry.invalid/kubedistill:none", "imagePullPolicy": "Always"}
    case.node.cluster.apply(runtime)
    case.apply(changed("unpulled", runtimeRef={"kind": "ClusterDistillationRuntime", "name": "elsewhere"}))

    def is_named(status: Object) -> bool:
        told = " ".join(f"{c['reason']} {c['message']}" for c in status.get("conditions", ()))
        return "registry.invalid/kubedistill:none" in told and "check the runtime's image" in told

    case.until("djob/unpulled", is_named, STAGE_S)


def test_a_secret_that_appears_later_lets_the_job_go_on(case: NodeCase) -> None:
    runtime = host_runtime("secretive")
    container = runtime["spec"]["worker"]["template"]["spec"]["containers"][0]
    container["env"].append({"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "late", "key": "token"}}})
    case.node.cluster.apply(runtime)
    case.apply(changed("patient", runtimeRef={"kind": "ClusterDistillationRuntime", "name": "secretive"}))

    def is_waiting(status: Object) -> bool:
        return any('secret "late" not found' in c["message"] for c in status.get("conditions", ()))

    case.until("djob/patient", is_waiting, STAGE_S)
    case.kubectl("create", "secret", "generic", "late", "--from-literal=token=t")
    prepared = case.until("djob/patient", lambda s: s["summary"]["stage"] != "prepare", STAGE_S)
    assert stages(prepared)["prepare"]["attempt"] == 0
