"""Scores that others published, beside ours and apart from them."""

from typing import Any

import pytest

from kubedistill_api.benchmarks import PRESETS, Published
from kubedistill_runtime.report import page
from kubedistill_runtime.report.gather import gather
from kubedistill_runtime.report.published import published
from kubedistill_runtime.report.wording import percent
from tests.unit.report.html_tree import parse
from tests.unit.report.synthetic_stages import Shape

STUDENT = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"
AIME = {"name": "aime24", **PRESETS["aime24"].entry}
SPEC: dict[str, Any] = {
    "student": {"uri": f"hf://{STUDENT}", "revision": "abc"},
    "teacher": {"model": {"uri": "hf://Qwen/QwQ-32B"}},
    "evaluation": {"benchmarks": [AIME]},
}
SMALL = Shape(questions=12, benchmark_questions=8, steps=5)


def of(model: str) -> list[Published]:
    return [found for found in PRESETS["aime24"].published if found.model == model]


def test_student_and_teacher_are_found_by_their_names_on_the_hub() -> None:
    rows = published(SPEC)
    assert [(row.who, row.published) for row in rows] == [
        *(("student", found) for found in of(STUDENT)),
        *(("teacher", found) for found in of("Qwen/QwQ-32B")),
    ]
    assert {row.published.score for row in rows} >= {72.6, 65.63, 76.25}


@pytest.mark.parametrize(
    "change",
    [
        {"evaluation": {"benchmarks": [{**AIME, "limit": 10}]}},
        {"evaluation": {"benchmarks": [{"name": "aime24", "uri": "hf://org/mine"}]}},
        {"evaluation": {"benchmarks": []}},
        {"evaluation": None},
        {"student": {"uri": "embedded://models/student"}, "teacher": {"probeRef": {"name": "p"}}},
    ],
)
def test_a_part_another_set_or_another_model_has_none(change: dict[str, Any]) -> None:
    assert published({**SPEC, **change}) == ()


def test_candidates_and_served_teachers_count_as_teachers() -> None:
    candidates = [{"name": "a", "endpoint": {"url": "http://a/v1", "model": "Qwen/QwQ-32B"}}]
    spec = {"candidates": candidates, "evaluation": SPEC["evaluation"]}
    assert [row.published for row in published(spec)] == of("Qwen/QwQ-32B")


def test_the_page_shows_them_as_copied_with_our_own_score_of_the_student(finished_job: Any) -> None:
    context = finished_job(SMALL, benchmarks=[AIME])
    report = gather(context, context.spec.params.manifest)
    tree = parse(page.render(report))
    assert tree.problems == []
    assert "Copied, not measured here" in tree.words
    base = report.tracks[0].benchmarks[0].score("base", "avg@8")
    assert base is not None
    assert f"{STUDENT} (student before training) 72.6 % {percent(base.mean)} pass@1 its authors" in tree.words
    assert "Qwen/QwQ-32B (teacher) 76.25 % – avg@16 re-run by the DED paper arXiv 2508.09883, table 2" in tree.words


def test_a_page_without_any_does_not_speak_of_them(finished_job: Any) -> None:
    context = finished_job(SMALL)
    assert "Published by others" not in page.render(gather(context, context.spec.params.manifest))
