"""Studies on a real API server and Job controller, and what becomes of one whose grid is changed on the way."""

from kubedistill_operator.names import DIGEST_LABEL, STAGE_LABEL
from tests.cluster.controlplane import ControlPlane
from tests.controlplane.operator_case import Case, condition, runtime, stages, study

GRID = "training.learningRate"


async def test_a_study_compares_its_variants_and_says_what_it_found(case: Case, control_plane: ControlPlane) -> None:
    await case.create(runtime(), study())
    async with case.operator():
        done = await case.finished("study", "DistillationStudy")
        await case.events("DistillationStudy", "Complete")
    status = done["status"]
    assert status["phase"] == "Complete", status["conditions"]
    assert {stage["state"] for stage in status["stages"]} == {"Succeeded"}
    # What variants have in common is done once, each is trained with both seeds.
    kinds = [stage["kind"] for stage in status["stages"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "prepare": 1, "baseline": 1, "sample": 1, "curate": 3, "train": 6, "evaluate": 3, "compare": 1, "report": 1,
    }  # fmt: skip
    jobs = await case.all("Job")
    assert sorted(item["metadata"]["labels"][STAGE_LABEL] for item in jobs) == sorted(stages(done))
    assert [arm["arm"] for arm in status["comparison"]["arms"]] == ["all", "right", "right-hard"]
    assert status["findings"] == [
        "all is better than right by 5.0 points [+3.0, +7.0]",
        "right-hard is worse than right by 5.0 points [-7.0, -3.0]",
    ]
    complete = condition(done, "Complete")
    assert complete["reason"] == "Compared"
    assert complete["message"].startswith("against right: 1 better, 1 worse; 17 stages succeeded")
    shown = control_plane.kubectl("get", "dstudy", "-n", case.namespace)
    assert " ".join(shown.splitlines()[0].split()) == "NAME PHASE STAGE PROGRESS TEACHER REFERENCE BEST AGE"
    row = " ".join(shown.splitlines()[1].split())
    assert row.startswith("study Complete 17/17 stages models/careless-teacher right 80.0 (all) ")


async def test_with_redraw_every_training_has_traces_and_a_corpus_of_its_own(case: Case) -> None:
    await case.create(runtime(), study(ladder=["all", "right"], seeds=[0, 1, 2], redraw=True))
    async with case.operator():
        done = await case.finished("study", "DistillationStudy")
    assert done["status"]["phase"] == "Complete", done["status"]["conditions"]
    kinds = [stage["kind"] for stage in done["status"]["stages"]]
    assert [kinds.count(kind) for kind in ("baseline", "sample", "curate", "train")] == [1, 3, 6, 6]
    assert {stage["state"] for stage in done["status"]["stages"]} == {"Succeeded"}


async def test_a_grid_that_is_changed_on_the_way_is_told_and_not_followed(case: Case) -> None:
    await case.create(runtime(), study(ladder=["all", "right"], seeds=[0], grid={GRID: [1e-5, 1e-4]}))
    case.player.hold("sample")
    async with case.operator():
        begun = await case.until("DistillationStudy", "study", lambda s: s.get("summary", {}).get("stage") == "sample")
        planned = {name: one["digest"] for name, one in stages(begun).items()}
        await case.patch("DistillationStudy", "study", {"grid": {GRID: [1e-5, 1e-3]}})
        told = await case.until("DistillationStudy", "study", _is_held)
        assert condition(told, "Progressing")["status"] == "False"
        assert condition(told, "Progressing")["message"].startswith("spec.grid changed after the study had begun")
        case.player.let_go("sample")
        await case.until_jobs(lambda jobs: len(jobs) >= 3 and all(j.get("status", {}).get("succeeded") for j in jobs))
    # The next operator has nothing in memory.
    async with case.operator():
        later = await case.until("DistillationStudy", "study", lambda s: _states(s).get("sample") == "Succeeded")
        assert _is_held(later["status"])
        assert {name: one["digest"] for name, one in stages(later).items()} == planned
        assert {stage["state"] for stage in later["status"]["stages"]} == {"Succeeded", "Waiting"}
        await case.patch("DistillationStudy", "study", {"grid": {GRID: [1e-5, 1e-4]}})
        done = await case.finished("study", "DistillationStudy")
    assert done["status"]["phase"] == "Complete", done["status"]["conditions"]
    assert {name: one["digest"] for name, one in stages(done).items()} == planned
    assert {job["metadata"]["labels"][DIGEST_LABEL] for job in await case.all("Job")} == {
        digest[:63] for digest in planned.values()
    }


def _is_held(status: dict[str, object]) -> bool:
    return status.get("summary", {}).get("reason") == "SpecChanged"  # type: ignore[attr-defined]


def _states(status: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in status.get("stages", ())}
