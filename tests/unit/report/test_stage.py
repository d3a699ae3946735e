"""The report stage, and the evaluate stage with an engine that has its answers ready."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubedistill_api.planning import plan
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.status import Score
from kubedistill_runtime.evaluate.results import MissingSamples
from kubedistill_runtime.stages import report
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.evaluate import evaluate
from tests.unit.report.html_tree import parse
from tests.unit.report.synthetic_stages import Shape, build

SMALL = Shape(questions=12, benchmark_questions=10, steps=6, length=60)


def test_the_stage_leaves_the_page_and_the_card(finished_job):
    context = finished_job(SMALL)
    result = report.run(context, context.spec.params)
    assert {name: artifact.uri for name, artifact in result.outputs.items()} == {
        "report": "report.html",
        "card": "README.md",
    }
    assert parse((context.folder / "report.html").read_text()).problems == []
    assert result.metrics["traces_shown"] == 96
    assert set(result.inputs) == set(context.spec.inputs)


@pytest.fixture
def evaluation(tmp_path, a_job):
    """The evaluate stage's context, and the answers that a real run would draw."""
    root = tmp_path / "storage"
    build(root, a_job, SMALL)
    graph = plan(a_job)
    folder = root / "stages" / graph["evaluate"].folder
    answers = pq.read_table(folder / "results.parquet")
    for path in folder.iterdir():
        path.unlink()
    return StageContext(graph.stage_spec("evaluate", str(root), RuntimeSpec())), answers


def drawing(answers: pa.Table):
    def draw(context, models, params) -> None:
        ((model, folder),) = models.items()
        assert (model / "model.safetensors").exists()
        assert params.evaluation.samples == 8
        pq.write_table(answers, folder / "results.parquet")

    return draw


def test_evaluation_leaves_answers_scores_and_flat_figures(evaluation):
    context, answers = evaluation
    result = evaluate(context, context.spec.params, drawing(answers))
    content = json.loads((context.folder / "scores.json").read_text())
    scores = [Score.model_validate(entry) for entry in content["scores"]]
    assert {(s.model, s.metric) for s in scores} == {
        (model, metric) for model in ("base", "student") for metric in ("avg@8", "pass@4")
    }
    assert result.metrics["math-tiny/avg@8/delta"] == pytest.approx(
        result.metrics["math-tiny/avg@8/student"] - result.metrics["math-tiny/avg@8/base"]
    )
    assert result.outputs["results"].rows == 80
    assert result.usage.completion_tokens == sum(answers["response_tokens"].to_pylist())


def test_evaluation_of_answers_with_one_missing_fails_and_leaves_no_result(evaluation):
    context, answers = evaluation
    with pytest.raises(MissingSamples, match="7 of 8 samples"):
        evaluate(context, context.spec.params, drawing(answers.slice(0, len(answers) - 1)))
    assert context.finished() is None
