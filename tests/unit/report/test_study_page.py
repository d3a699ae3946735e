"""The report of a study: the table, what it says in words, and score against cost."""

from dataclasses import replace

from kubedistill_api.comparison import ArmResult, Comparison
from kubedistill_runtime.report import card, charts, page
from kubedistill_runtime.report.gather import gather
from kubedistill_runtime.report.wording import study_caution, study_headline
from tests.unit.report.html_tree import parse


def arm(name: str, score: float, ends: tuple[float, float] | None, cost: float) -> ArmResult:
    return ArmResult(
        arm=name,
        score=score,
        ci=(score - 0.05, score + 0.05),
        against=None if ends is None else "method",
        difference=None if ends is None else sum(ends) / 2,
        difference_ci=ends,
        questions=10,
        traces=40,
        steps=30,
        training_tokens=cost,
        response_tokens=cost / 10,
    )


def comparison(*arms: ArmResult) -> Comparison:
    return Comparison(
        arms=list(arms),
        confidence=0.95,
        comparisons=len(arms) - 1,
        benchmark_questions=100,
        samples=4,
        seeds=3,
        base=0.25,
        front_training=["few", "method"],
        front_response=["few"],
    )


METHOD, FEW = arm("method", 0.8, None, 1000), arm("few", 0.7, (-0.15, -0.05), 500)


def study_report(finished_job):
    context = finished_job()
    report = gather(context, context.spec.params.manifest)
    return replace(report, kind="DistillationStudy", tracks=(), answers=None, comparison=comparison(METHOD, FEW))


def test_the_page_has_the_table_the_sentences_and_both_fronts(finished_job):
    report = study_report(finished_job)
    text = page.render(report)
    assert parse(text).problems == []
    assert 'id="variants"' in text
    assert "few is worse than method by 10.0 points [-15.0, -5.0]" in text
    assert "Not dominated: few, method." in text
    assert "before training the student scores 25.0 %" in text
    assert "another draw may differ" in text
    assert text == page.render(report)


def test_the_card_has_the_table_and_claims_no_model(finished_job):
    text = card.render(study_report(finished_job))
    assert "| few |" in text
    assert "base_model" not in text
    assert "The students of a study are for comparison only." in text


def test_every_variant_is_a_point_with_its_name():
    (_, training), (_, response) = charts.fronts(comparison(METHOD, FEW, arm("other", 0.75, (-0.1, 0.01), 900)))
    for plot in (training, response):
        assert plot.count("<circle") == 3
        assert all(f">{name}</text>" in plot for name in ("method", "few", "other"))


def test_the_headline_says_no_more_than_the_intervals():
    same, better = arm("same", 0.81, (-0.02, 0.04), 1), arm("more", 0.9, (0.05, 0.15), 1)
    cases = [
        ((METHOD, FEW), "worse", "Every other variant is worse than method"),
        ((METHOD, FEW, same), "unclear", "Nothing is better than method as far as this study could see"),
        ((METHOD, FEW, better), "better", "more is better than the reference"),
        ((METHOD, better, replaced(better, "most")), "better", "2 variants are better than the reference"),
    ]
    for arms, finding, title in cases:
        headline = study_headline(comparison(*arms))
        assert (headline.finding, headline.title) == (finding, title)


def test_the_caution_is_about_the_draw_only_where_there_is_one():
    once = comparison(METHOD, FEW)
    assert "one draw of the teacher's traces" in study_caution(once)
    several = study_caution(once.model_copy(update={"draws": once.seeds}))
    assert "one draw" not in several
    assert "other traces of this teacher" in several


def replaced(one: ArmResult, name: str) -> ArmResult:
    return one.model_copy(update={"arm": name})
