"""The model card is one that the hub reads."""

import pytest
import yaml
from huggingface_hub import ModelCard

from kubedistill_runtime.report import card
from kubedistill_runtime.report.gather import gather
from tests.unit.report.synthetic_stages import Shape

SMALL = Shape(questions=12, benchmark_questions=10, steps=6, length=60)


def rendered(context) -> str:
    return card.render(gather(context, context.spec.params.manifest))


@pytest.fixture
def text(finished_job):
    return rendered(finished_job(SMALL))


def test_the_hub_reads_the_front_matter(text):
    data = ModelCard(text).data.to_dict()
    assert data["base_model"] == "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"
    assert data["datasets"] == ["simplescaling/s1K-1.1"]
    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "text-generation"
    assert "distillation" in data["tags"]
    [model] = data["model-index"]
    assert {metric["type"] for result in model["results"] for metric in result["metrics"]} == {
        "avg@8",
        "pass@4",
    }


@pytest.mark.parametrize("title", ["Scores", "Data", "Training", "Limitations", "Licence", "Lineage"])
def test_the_card_has_all_sections(text, title):
    assert f"\n## {title}\n" in text


def test_scores_have_their_intervals_and_the_chain_its_digests(finished_job):
    context = finished_job(SMALL)
    text = rendered(context)
    delta = gather(context, {}).tracks[0].benchmarks[0].delta("avg@8")
    assert f"{100 * delta.mean:+.1f} (" in text
    for role in context.spec.inputs:
        assert f"`{context.result_of(role).digest[:16]}`" in text


def test_models_that_are_not_on_the_hub_are_not_named_as_if_they_were(finished_probe):
    front = finished_probe(SMALL)
    data = yaml.safe_load(rendered(front).split("---")[1])
    assert "base_model" not in data
    assert "datasets" not in data


def test_a_probes_card_ranks_the_candidates(finished_probe):
    text = rendered(finished_probe(SMALL))
    assert text.index("| careless |") < text.index("| terse |")


def test_a_card_without_scores_or_training_is_still_one(finished_job):
    text = rendered(finished_job(SMALL, only={"prepare", "sample"}))
    assert "## Scores" not in text
    assert "## Training" not in text
    assert ModelCard(text).data.to_dict()["library_name"] == "transformers"


def test_the_same_stages_give_the_same_card(finished_job):
    context = finished_job(SMALL)
    assert rendered(context) == rendered(context)


@pytest.mark.parametrize("text", ["a | b", "<b>x</b>", "line\nline", "[a](javascript:x)", "`code`", "&lt;"])
def test_text_from_outside_shows_as_it_is_in_one_line(text):
    shown = card.cell(text)
    assert "\n" not in shown
    for character in "|<>[]`&":
        assert shown.count(character) == shown.count(f"\\{character}")
