"""The stages of a study: what its variants share, what they are matched with, and what is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from kubedistill_api.comparison import ArmResult, Comparison
from kubedistill_api.conditions import find
from kubedistill_api.graph import Graph, source_uris
from kubedistill_api.manifest import ManifestError, load
from kubedistill_api.planning import plan
from kubedistill_api.stage import TERMINATION_MESSAGE_BYTES, StageResult
from kubedistill_api.study import DistillationStudy, arms
from kubedistill_api.variants import STANDARD
from tests.unit.control.cluster_model import START, Cluster, graph_of, job, result_of

HARD = {"difficulty": {"maxPassRate": 0.5}}


def study(job_fields: dict[str, Any] | None = None, **spec: Any) -> DistillationStudy:
    fields = job().spec.model_dump(by_alias=True, exclude_unset=True, exclude={"suspend"})
    recipe = fields | {"curation": HARD} | (job_fields or {})
    return DistillationStudy.model_validate({"metadata": {"name": "ladder"}, "spec": {"job": recipe} | spec})


def kinds(graph: Graph) -> dict[str, int]:
    found = [node.kind for node in graph.nodes]
    return {kind: found.count(kind) for kind in dict.fromkeys(found)}


def table(names: list[str], differences: list[tuple[float, float] | None]) -> Comparison:
    rows = [
        ArmResult(
            arm=name,
            score=0.5,
            ci=(0.4, 0.6),
            against=None if ends is None else "right-hard-diverse",
            difference=None if ends is None else sum(ends) / 2,
            difference_ci=ends,
            questions=10,
            traces=40,
            steps=30,
            training_tokens=1000,
            response_tokens=50,
        )
        for name, ends in zip(names, differences, strict=True)
    ]
    return Comparison(
        arms=rows,
        confidence=0.95,
        comparisons=len(rows) - 1,
        benchmark_questions=100,
        samples=4,
        seeds=3,
        front_training=[],
        front_response=[],
    )


def test_the_whole_ladder_samples_once_and_trains_every_variant_with_every_seed() -> None:
    graph = plan(study())
    assert [arm.name for arm in arms(study().spec)] == list(STANDARD)
    # One trace of every hard question, trained for longer, is the same corpus: it is curated once.
    assert kinds(graph) == {
        "prepare": 1,
        "baseline": 1,
        "sample": 1,
        "curate": 10,
        "train": 33,
        "evaluate": 11,
        "compare": 1,
        "report": 1,
    }
    assert graph["train-right-hard-steps-s2"].needs == {
        "curate": "curate-right-hard",
        "matched": "train-right-hard-diverse-s2",
    }
    assert graph["curate-random-questions"].needs["matched"] == "curate-right-hard-diverse"
    assert graph["curate-wrong"].params.match == "traces"
    assert [graph[f"train-right-s{n}"].params.training.seed for n in (1, 2, 3)] == [0, 1, 2]
    assert graph["evaluate-right"].params.students == [f"train-right-s{n}" for n in (1, 2, 3)]


def test_what_a_job_does_is_the_same_work_in_a_study_of_it() -> None:
    alone = plan(job(curation=HARD))
    graph = plan(study())
    for name in ("prepare", "baseline", "sample"):
        assert graph[name].digest == alone[name].digest
    assert graph["curate-right-hard-diverse"].digest == alone["curate"].digest
    assert graph["train-right-hard-diverse-s1"].digest == alone["train"].digest


def test_variants_that_do_not_ask_for_difficulty_share_the_measurement_of_those_that_do() -> None:
    graph = plan(study(ladder=["right", "right-hard-diverse"]))
    assert graph["baseline"].params.pass_rate is not None
    assert graph["curate-right"].needs["baseline"] == graph["curate-right-hard-diverse"].needs["baseline"] == "baseline"
    assert graph["curate-right"].params.curation.difficulty.max_pass_rate is None
    nobody = study(job_fields={"curation": {}}, ladder=["all", "right"], reference="right")
    assert plan(nobody)["baseline"].params.pass_rate is None


def test_with_redraw_every_training_has_traces_and_a_choice_of_its_own() -> None:
    once, graph = plan(study(seeds=[5, 6, 7])), plan(study(seeds=[5, 6, 7], redraw=True))
    assert [node.params.sampling.seed for node in graph.nodes if node.kind == "sample"] == [0, 1, 2]
    assert kinds(graph)["baseline"] == kinds(once)["baseline"] == 1
    assert kinds(graph)["curate"] == 3 * kinds(once)["curate"]
    assert kinds(graph)["train"] == kinds(once)["train"]
    for number, sample in ((1, "sample"), (2, "sample-2"), (3, "sample-3")):
        for variant in ("right-hard-diverse", "random-questions"):
            assert graph[f"train-{variant}-s{number}"].needs["curate"] == f"curate-{variant}-s{number}"
            assert graph[f"curate-{variant}-s{number}"].needs["sample"] == sample
            assert graph[f"curate-{variant}-s{number}"].params.curation.seed == number - 1
        needs = graph[f"curate-random-questions-s{number}"].needs
        assert needs["matched"] == f"curate-right-hard-diverse-s{number}"
        needs = graph[f"train-right-hard-steps-s{number}"].needs
        assert needs["matched"] == f"train-right-hard-diverse-s{number}"
    compared = graph["compare"].params.arms["wrong"]
    assert compared.curates == ["curate-wrong-s1", "curate-wrong-s2", "curate-wrong-s3"]
    assert set(compared.curates) <= set(graph["compare"].needs)
    # The first draw is that of a study without, and of the job.
    assert graph["train-right-s1"].digest == once["train-right-s1"].digest
    assert graph["train-right-s2"].digest != once["train-right-s2"].digest


def test_students_of_several_variants_can_be_scored_by_one_start_of_the_engine() -> None:
    graph = plan(study(variantsPerEvaluation=4))
    assert [len(node.params.students) for node in graph.nodes if node.kind == "evaluate"] == [12, 12, 9]
    compared = graph["compare"].params
    assert compared.arms["right"].evaluate == "evaluate-all"
    assert set(compared.arms["right"].trains) <= set(graph["evaluate-all"].needs)
    assert compared.order == list(STANDARD)


def test_students_of_different_models_are_not_scored_by_one_engine() -> None:
    other = {"name": "other", "like": "right", "overrides": {"student.uri": "hf://org/other"}}
    graph = plan(study(ladder=["right", "right-hard-diverse"], variants=[other], variantsPerEvaluation=9))
    assert [node.name for node in graph.nodes if node.kind == "evaluate"] == ["evaluate-right", "evaluate-other"]
    assert [node.name for node in graph.nodes if node.kind == "baseline"] == ["baseline", "baseline-2"]
    assert graph["evaluate-other"].needs["baseline"] == graph["curate-other"].needs["baseline"] == "baseline-2"


def test_a_grid_is_crossed_with_every_variant_and_compared_within_a_combination() -> None:
    grid = {"training.learningRate": [1e-5, 1e-4], "questions.0.limit": [100]}
    found = arms(study(ladder=["right", "right-hard-diverse"], grid=grid).spec)
    assert [(arm.name, arm.against) for arm in found] == [
        ("right-g1", "right-hard-diverse-g1"),
        ("right-g2", "right-hard-diverse-g2"),
        ("right-hard-diverse-g1", None),
        ("right-hard-diverse-g2", "right-hard-diverse-g1"),
    ]
    assert [arm.recipe.training.learning_rate for arm in found] == [1e-5, 1e-4, 1e-5, 1e-4]
    assert found[0].recipe.questions[0].limit == 100
    graph = plan(study(ladder=["right", "right-hard-diverse"], grid=grid))
    assert kinds(graph)["curate"] == 2  # the learning rate changes no corpus
    assert graph["compare"].params.arms["right-g2"].settings == "learningRate 0.0001, limit 100"


def test_overrides_start_from_the_variant_that_they_name() -> None:
    own = {"name": "six", "like": "random-p", "overrides": {"curation.diversity.trajectories": 6}}
    (arm,) = [arm for arm in arms(study(ladder=["right-hard-diverse"], variants=[own]).spec) if arm.name == "six"]
    diversity = arm.recipe.curation.diversity
    assert (diversity.select, diversity.trajectories, arm.against) == ("random", 6, "right-hard-diverse")


def test_models_that_only_a_variant_names_are_sources() -> None:
    other = {"name": "other", "overrides": {"student.uri": "hf://org/other"}}
    assert "hf://org/other" in source_uris(study(variants=[other]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"reference": "right-hrad"}, "there is no variant right-hrad; did you mean right-hard"),
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"seeds": [1, 2], "redraw": True}, r"redraw needs 3 seeds or more .got 2."),
        ({"seeds": list(range(10))}, "are 110 students, 96 at most; take fewer"),
        ({"ladder": ["right"], "reference": "right"}, "nothing to compare"),
        ({"variants": [{"name": "right"}]}, "names must differ, also from the ladder's .twice: right."),
        ({"ladder": ["right", "random-questions"], "reference": "right"}, "as many questions as right-hard-diverse"),
        ({"grid": {"training.learningRat": [1]}}, "grid: training.learningRat: there is no field learningRat in job"),
        ({"grid": {"training.learningRat": [1]}}, "did you mean learningRate"),
        ({"grid": {"questions.limit": [1]}}, "job.questions is a list of 1; name an entry by its number"),
        ({"grid": {"questions.3.limit": [1]}}, "job.questions is a list of 1"),
        ({"grid": {"training.epochs": [3, 0]}}, "grid: all with training.epochs 0: job.training.epochs: 0 is out of"),
        ({"grid": {"training.seed": [1]}}, "name the seeds in seeds"),
        ({"grid": {"evaluation.samples": [4]}}, "job.evaluation cannot differ between variants"),
        ({"variants": [{"name": "x", "overrides": {"training.epochs": "many"}}]}, "variants: x: job.training.epochs"),
        ({"variants": [{"name": "x", "overrides": {"teacher": {}}}]}, "variants: x: job.teacher: set exactly one"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_its_field_and_what_to_do(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        study(**spec)


@pytest.mark.parametrize("as_grid", [False, True], ids=["overrides", "grid"])
@pytest.mark.parametrize(
    ("path", "value", "field", "instead"),
    [
        ("evaluation.samples", 4, "evaluation", "leave it as it is"),
        ("evaluation.temperature", 0.1, "evaluation", "leave it as it is"),
        ("evaluation.benchmarks.0.limit", 5, "evaluation", "leave it as it is"),
        ("evaluation.benchmarks", [], "evaluation", "leave it as it is"),
        ("teacher", {"probeRef": {"name": "which"}}, "teacher.probeRef", "model or endpoint"),
        ("training.seed", 5, "training.seed", "name the seeds in seeds"),
        # The same within a larger object.
        ("training", {"seed": 5}, "training.seed", "name the seeds in seeds"),
    ],
)
def test_what_variants_are_compared_by_cannot_be_varied(
    path: str, value: Any, field: str, instead: str, as_grid: bool
) -> None:
    varied = {"grid": {path: [value]}} if as_grid else {"variants": [{"name": "x", "overrides": {path: value}}]}
    who = "grid: all with" if as_grid else "variants: x"
    with pytest.raises(ValidationError, match=f"{who}.*: job.{field} cannot differ between variants: .*{instead}"):
        study(**varied)


def test_a_forbidden_field_with_the_job_s_own_value_varies_nothing() -> None:
    own = study().spec.job.training.seed
    same = [{"name": "x", "overrides": {"training.seed": own}}]
    assert {arm.recipe.training.seed for arm in arms(study(variants=same).spec)} == {own}


def test_a_ladder_needs_a_job_that_says_what_is_hard_and_keeps_several_traces() -> None:
    with pytest.raises(ValidationError, match="says not which questions are hard, and right-hard is about them"):
        study(job_fields={"curation": {}})
    with pytest.raises(ValidationError, match="trajectories is 1, and right-hard-diverse is about several"):
        study(job_fields={"curation": HARD | {"diversity": {"trajectories": 1}}})
    with pytest.raises(ValidationError, match="probeRef is not for studies"):
        study(job_fields={"teacher": {"probeRef": {"name": "which"}}})


def test_errors_of_a_manifest_name_its_line() -> None:
    text = study().model_dump_json(by_alias=True, exclude_unset=True)
    wrong = text.replace('"job":', '"ladder":["right","wright"],"job":')
    head = '{"apiVersion":"kubedistill.io/v1alpha1","kind":"DistillationStudy",'
    with pytest.raises(ManifestError, match=r"'wright' is not allowed\n.*did you mean (right|wrong)"):
        load(head + wrong[1:])


def test_relative_paths_of_variants_are_resolved_as_those_of_the_job(tmp_path: Any) -> None:
    own = [{"name": "x", "overrides": {"student.uri": "models/x"}}]
    text = study(variants=own, grid={"teacher.model.uri": ["a", "hf://o/b"]}).model_dump_json(
        by_alias=True, exclude_unset=True
    )
    file = tmp_path / "study.yaml"
    file.write_text('{"apiVersion":"kubedistill.io/v1alpha1","kind":"DistillationStudy",' + text[1:])
    (resolved,) = load(file).resolved().resources
    assert resolved.spec.variants[0].overrides["student.uri"] == f"file://{tmp_path}/models/x"
    assert resolved.spec.grid["teacher.model.uri"] == [f"file://{tmp_path}/a", "hf://o/b"]


@pytest.mark.parametrize("variants", [2, 11, 12, 30, 60, 96])
def test_a_table_of_any_length_reaches_the_status_and_says_what_it_leaves_out(variants: int) -> None:
    names = [f"a-variant-of-some-length-{n}" for n in range(variants - 1)]
    ends = [((0.01, 0.03), (-0.4, -0.2), (-0.02, 0.05))[n % 3] for n in range(variants - 1)]
    told = table([*names, "right-hard-diverse"], [*ends, None])
    # The reference is neither the best nor on a front; the best is not the first.
    arms_ = [arm.model_copy(update={"score": 0.5 + n / 1000}) for n, arm in enumerate(told.arms[:-1])]
    arms_.append(told.arms[-1].model_copy(update={"score": 0.1}))
    whole = told.model_copy(update={"arms": arms_, "front_training": [names[0], names[-1]]})

    cluster = Cluster(study(ladder=["right", "right-hard-diverse"]))
    node = graph_of(cluster.resource)["compare"]
    made = result_of(cluster.graph, "compare", START).model_copy(update={"comparison": whole})
    message = made.termination_message()
    assert len(message.encode()) <= TERMINATION_MESSAGE_BYTES
    cluster.results[node.digest] = StageResult.model_validate_json(message)
    cluster.settle()
    seen = cluster.status.comparison
    assert seen is not None
    assert len(seen.arms) + sum(seen.omitted.values()) == variants
    assert len(seen.arms) >= min(variants, 10)
    assert seen.summary() == whole.summary()
    assert (seen.best, seen.arms[-1]) == (whole.best, arms_[-1])
    assert [arm for arm in whole.arms if arm in seen.arms] == seen.arms, "rows as they were, in their order"
    assert seen.front_training == whole.front_training
    assert cluster.results[node.digest].outputs == made.outputs
    assert cluster.results[node.digest].metrics == made.metrics
    more = sum(seen.omitted.values())
    findings = cluster.status.findings
    own = [line for line in whole.sentences() if line in findings]
    assert len(own) == len(seen.arms) - 1
    assert [line[: line.find(":")] for line in findings[len(own) :]] == (
        [f"and {more} more in the report"] if more else []
    )
    complete = find(cluster.status.conditions, "Complete")
    assert complete.message.startswith(whole.summary())


def test_a_study_ends_with_its_table_and_what_it_says_in_words() -> None:
    cluster = Cluster(study(ladder=["right", "wrong", "right-hard", "right-hard-diverse"]))
    node = graph_of(cluster.resource)["compare"]
    told = table(
        ["right", "wrong", "right-hard", "right-hard-diverse"], [(0.01, 0.03), (-0.4, -0.2), (-0.02, 0.05), None]
    )
    cluster.results[node.digest] = result_of(cluster.graph, "compare", START).model_copy(update={"comparison": told})
    cluster.settle()
    status = cluster.status
    assert status.comparison == told
    assert status.findings == [
        "right is better than right-hard-diverse by 2.0 points [+1.0, +3.0]",
        "wrong is worse than right-hard-diverse by 30.0 points [-40.0, -20.0]",
        "right-hard and right-hard-diverse: no difference that this study could see "
        "(+1.5 [-2.0, +5.0]; one of 5.0 points is not ruled out)",
    ]
    complete = find(status.conditions, "Complete")
    assert complete.reason == "Compared"
    assert complete.message.startswith("against right-hard-diverse: 1 better, 1 worse, 1 not told apart; ")
    assert status.summary.score == "50.0 (right)"
    # The child that made the table is removed in time.
    cluster.results.clear()
    cluster.look()
    assert cluster.status.comparison == told
