"""The forecast of a whole plan."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubedistill_api.manifest import Manifest, load
from kubedistill_api.planning import plan
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.stage import StageResult
from kubedistill_api.status import Artifact, Usage
from kubedistill_runtime.estimate.advice import advice
from kubedistill_runtime.estimate.forecast import Forecast, forecast
from kubedistill_runtime.estimate.time import ENGINE_START_S

EXAMPLES = Path(__file__).parents[3] / "examples"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def forecast_of(text: str | Path, results: dict[str, StageResult] | None = None) -> Forecast:
    manifest = load(text)
    (resource,) = manifest.resources
    return forecast(resource, plan(resource), manifest.runtime_of(resource) or RuntimeSpec(), results)


def paper() -> str:
    return (EXAMPLES / "ded-math-32b.yaml").read_text()


def test_the_paper_s_recipe_fits_and_has_a_price() -> None:
    found = forecast_of(paper())
    assert found.fits_memory
    stages = {stage.name: stage for stage in found.stages}
    assert {name for name, stage in stages.items() if stage.cost} == {"sample", "baseline", "train", "evaluate"}
    assert found.cost == pytest.approx(found.gpu_seconds / 3600 * 2.5)
    assert 30 < found.gpu_seconds / 3600 < 1000
    assert stages["train"].tokens is not None
    assert 180 <= stages["train"].tokens.steps <= 220
    assert found.warnings == []


def test_one_machine_of_80_gb_is_refused_for_it_with_the_fix() -> None:
    found = forecast_of(paper().replace("replicas: 2", "replicas: 1"))
    assert not found.fits_memory
    assert any("spec.training (trainer)" in warning and "16 of these GPUs" in warning for warning in found.warnings)


def test_a_stage_that_is_done_costs_nothing_and_teaches_the_rest() -> None:
    manifest = load(paper())
    graph = plan(manifest.resources[0])
    before = forecast_of(paper())

    def result(name: str, **fields: object) -> StageResult:
        node = graph[name]
        base = {"stage": name, "kind": node.kind, "digest": node.digest, "started": NOW, "finished": NOW}
        return StageResult.model_validate(base | fields)

    results = [
        result("prepare", metrics={"questions": 500, "benchmark_questions": 560}),
        result(
            "sample",
            outputs={"traces": Artifact(uri="traces.parquet", digest="x", rows=1000)},
            usage=Usage(completion_tokens=2_000_000),
        ),
    ]
    after = forecast_of(paper(), {each.digest: each for each in results})
    stages = {stage.name: stage for stage in after.stages}
    assert stages["sample"].reused
    train = stages["train"].tokens
    assert train is not None
    assert train.mean_response == 2000
    assert after.gpu_seconds < before.gpu_seconds
    assert after.cost is not None
    assert after.cost < (before.cost or 0)


def test_an_endpoint_takes_no_gpu_but_time_by_its_limits() -> None:
    stages = {stage.name: stage for stage in forecast_of(EXAMPLES / "code.yaml").stages}
    assert stages["sample"].duration is None
    assert (stages["sample"].endpoint, stages["sample"].gpus) == (True, 0)
    assert stages["sample"].limited_seconds == pytest.approx(stages["sample"].tokens.requests / 10)


def test_each_candidate_of_a_probe_is_looked_at() -> None:
    found = forecast_of(EXAMPLES / "probe.yaml")
    models = [fit.model for fit in found.fits if fit.role == "sampler"]
    names = ("careless-teacher", "terse-teacher", "student")
    assert models == [f"embedded://models/{name}" for name in names]
    fields = [fit.field for fit in found.fits if fit.role == "sampler"]
    assert fields == [f"spec.candidates[{number}]" for number in range(3)]


def test_each_draw_of_a_candidate_is_priced() -> None:
    text = (EXAMPLES / "probe.yaml").read_text()
    assert "    rounds: 2\n" in text
    drawn_anew = forecast_of(text.replace("    rounds: 2\n", "    rounds: 2\n    seeds: [0, 1, 2]\n    redraw: true\n"))
    once = {stage.name: stage for stage in forecast_of(text).stages}
    for stage in drawn_anew.stages:
        if stage.name.startswith("sample-"):
            assert stage.tokens == once[stage.name[: -len("-s1")]].tokens
    assert len({fit.field for fit in drawn_anew.fits if fit.role == "sampler"}) == 3


def test_a_round_is_priced_by_its_part_and_without_what_was_drawn_before() -> None:
    stages = {stage.name: stage for stage in forecast_of(EXAMPLES / "probe.yaml").stages}
    first, second = stages["sample-careless-r1"], stages["sample-careless-r2"]
    assert second.tokens.requests == pytest.approx(2 * first.tokens.requests, abs=1)
    assert stages["evaluate-careless-r1"].tokens.requests == 102 * 3
    assert stages["evaluate-careless-r2"].tokens.requests == 102 * 8
    assert 2 * stages["train-careless-r1"].tokens.steps < stages["train-careless-r2"].tokens.steps
    assert not first.maybe
    assert second.maybe


def test_what_is_not_known_is_said() -> None:
    text = (
        paper().replace("hf://simplescaling/s1K-1.1", "hf://org/questions").replace("hf://Qwen/QwQ-32B", "hf://org/m")
    )
    text = text.replace("hf://deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "hf://org/student-9b")
    warnings = "\n".join(forecast_of(text).warnings)
    assert "spec.questions[0]: its size is not known here; 1000 questions are assumed" in warnings
    assert "spec.teacher: the size of hf://org/m is not known" in warnings
    assert "hf://org/student-9b is taken for a 9B model" in warnings


def advise(manifest: Manifest, runtime: RuntimeSpec | None = None) -> str:
    return "\n".join(advice(manifest.resources[0], runtime or RuntimeSpec()))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("samples: 16 ", "samples: 2 ", "spec.teacher.sampling.samples (2) is less than spec.curation.diversity"),
        ("stopAfterVerified: 8", "stopAfterVerified: 3", "stopAfterVerified (3) leaves less than 4 traces"),
        ("contextLength: 16384", "contextLength: 8192", "contextLength (8192) is less than the longest trace"),
        ('{uri: "hf://Qwen/QwQ-32B", revision: main}', '{uri: "hf://Qwen/QwQ-32B"}', "no revision is given for hf://Q"),
    ],
)
def test_what_was_probably_not_meant_is_mentioned(old: str, new: str, expected: str) -> None:
    text = paper()
    assert old in text
    changed = text.replace(old, new).replace(
        "stopAfterVerified: 8", "stopAfterVerified: 2" if "samples: 2" in new else "stopAfterVerified: 8"
    )
    assert expected in advise(load(changed))


def test_the_paper_s_recipe_has_nothing_to_mention() -> None:
    assert advise(load(paper())) == ""


def test_a_runtime_s_limit_is_mentioned() -> None:
    runtime = RuntimeSpec.model_validate({"limits": {"maxSamples": 8}})
    assert "over the runtime's limit of 8" in advise(load(paper()), runtime)


def test_a_harness_task_is_asked_once_whatever_the_other_benchmarks_are() -> None:
    last = "    - {preset: math500, revision: main}\n"
    own = paper().replace(last, last + "    - {name: gsm, harness: {task: gsm8k, numFewshot: 5}}\n")
    before, after = ({stage.name: stage.tokens for stage in forecast_of(text).stages} for text in (paper(), own))
    for name in ("baseline", "evaluate"):
        one, two = before[name], after[name]
        assert one is not None
        assert two is not None
        assert two.requests - one.requests == 1319, "as many as the task of that name has"
        assert two.prompt - one.prompt == 1319 * 6 * 150
        assert two.completion - one.completion == pytest.approx(1319 * 0.4 * 256, abs=1)


def test_measuring_the_corpus_is_in_the_plan_and_leaving_it_out_saves_its_time() -> None:
    text = paper().replace("    epochs: 10\n", "    epochs: 10\n    measureCorpus: false\n")
    with_it, without = (
        next(stage for stage in forecast_of(one).stages if stage.name == "train") for one in (paper(), text)
    )
    assert with_it.tokens is not None
    assert without.tokens is not None
    assert without.tokens.measured == 0
    assert with_it.tokens.measured * 10 == pytest.approx(with_it.tokens.training, rel=0.01), "one of eleven readings"
    assert with_it.duration is not None
    assert without.duration is not None
    # A pass without the way back costs a third: of 10 epochs it adds one part in thirty.
    work = without.duration.wall_seconds - ENGINE_START_S
    assert with_it.duration.wall_seconds - without.duration.wall_seconds == pytest.approx(work / 30, rel=0.02)
