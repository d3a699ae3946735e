"""What trainings measured of their corpora, beside the scores."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kubedistill_api.stage import RESULT_FILE, StageResult
from kubedistill_runtime.report import card, charts, covariates, page
from kubedistill_runtime.report.gather import gather
from kubedistill_runtime.report.wording import covariates_caution
from tests.unit.report.html_tree import parse
from tests.unit.report.synthetic_stages import Shape, measured

SMALL = Shape(questions=12, benchmark_questions=10, steps=12, length=60)


def gathered(context):
    return gather(context, context.spec.params.manifest)


def test_a_jobs_report_says_what_its_training_measured(finished_job):
    context = finished_job(SMALL)
    report = gathered(context)
    content = json.loads(context.artifact("train", "covariates").read_bytes())
    (found,) = report.covariates
    assert (found.label, found.score) == ("", None)
    assert found.nll.mean == content["nll"]["mean"]
    assert found.entropy.quantiles[50] == content["entropy"]["quantiles"]["50"]
    assert found.shift == content["shift"]["distance"]
    text = page.render(report)
    assert parse(text).problems == []
    assert f"{found.nll.mean:.3f}" in text
    assert "predict nothing" in text
    assert f"{found.entropy.mean:.3f} nats (median" in card.render(report)


def test_a_probes_table_has_each_candidate_beside_its_score_the_best_first(finished_probe):
    report = gathered(finished_probe(SMALL))
    assert [(c.label, c.score) for c in report.covariates] == [
        (name, entry.score) for name, (entry, _) in report.placed.items()
    ]
    text = page.render(report)
    assert parse(text).problems == []
    assert "All else is of the first one" not in text
    assert "With 2 candidates no correlation with the scores is claimed here" in text
    assert text.count("<figcaption>Tokens by entropy: ") == 2


@pytest.mark.parametrize("redraw", [False, True])
def test_a_candidate_with_several_trainings_has_one_row_with_the_mean_of_their_shifts(finished_probe, redraw):
    context = finished_probe(SMALL, seeds=[0, 1, 2], redraw=redraw)
    report = gathered(context)
    found = {c.label: c for c in report.covariates}
    assert set(found) == {"careless", "terse"}
    shifts = [
        json.loads(context.artifact(f"train-terse-s{n}", "covariates").read_bytes())["shift"]["distance"]
        for n in (1, 2, 3)
    ]
    assert len(set(shifts)) == 3
    assert found["terse"].shift == pytest.approx(np.mean(shifts))
    own = ", each on traces of its own" if redraw else ""
    assert f"Scores of this table are means of 3 trainings{own}. All else is of the first one" in page.render(report)


def test_a_studys_table_has_each_variant_beside_its_score_with_the_shift_over_its_trainings(finished_study):
    context = finished_study(SMALL)
    report = gathered(context)
    assert sorted((c.label, c.score) for c in report.covariates) == sorted(
        (arm.arm, arm.score) for arm in report.comparison.arms
    )
    assert report.covariates[0].score >= report.covariates[1].score
    right = next(c for c in report.covariates if c.label == "right")
    shifts = [
        json.loads(context.artifact(f"train-right-s{n}", "covariates").read_bytes())["shift"]["distance"]
        for n in (1, 2)
    ]
    assert right.shift == pytest.approx(np.mean(shifts))
    text = page.render(report)
    assert parse(text).problems == []
    assert "With 2 variants no correlation with the scores is claimed here" in text
    assert "<figcaption>Tokens by entropy: right-hard-diverse" in text


def test_a_training_of_an_earlier_version_leaves_no_section(finished_job):
    context = finished_job(SMALL)
    path = context.artifact("train", "model").parent / RESULT_FILE
    result = StageResult.model_validate_json(path.read_bytes())
    del result.outputs["covariates"]
    path.write_text(result.model_dump_json(by_alias=True))
    fresh = type(context)(context.spec)
    report = gathered(fresh)
    assert report.covariates == ()
    assert 'id="covariates"' not in page.render(report)


def test_the_shift_is_averaged_over_the_trainings_of_a_corpus(tmp_path):
    paths = []
    for seed in range(2):
        content = measured(np.random.default_rng(0)) | {"shift": {"distance": 1.0 + seed}}
        paths.append(tmp_path / f"{seed}.json")
        paths[-1].write_text(json.dumps(content))
    assert covariates.read("a", 0.5, paths).shift == 1.5
    assert covariates.read("a", 0.5, []) is None


def test_histograms_share_their_axes_and_tell_every_share(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(measured(np.random.default_rng(1))))
    one = covariates.read("one", 0.5, [path])
    half = replace(one, label="half", entropy=replace(one.entropy, counts=(4000,)))
    (first, wide), (second, narrow) = charts.entropies([one, half])
    assert (first, second) == ("one", "half")
    assert wide.count('class="hover"') == len(one.entropy.counts)
    assert "0.0 to 0.1 nats: 4,000 tokens, 100.00 %" in narrow

    def ticks(plot):
        return [part.split("<")[0] for part in plot.split('class="tick"')[1:]]

    assert ticks(wide) == ticks(narrow)
    assert f"4,000 tokens · mean {one.entropy.mean:.3f} · median" in wide
    assert 'class="bar base" x="0%" y="0%"' in narrow, "all of it reaches the top"
    assert 'class="bar base" x="0%" y="0%"' not in wide


@pytest.mark.parametrize(("number", "words"), [(1, "predict nothing"), (3, "With 3 variants no correlation")])
def test_no_number_of_corpora_makes_a_claim(finished_job, number, words):
    report = gathered(finished_job(SMALL))
    several = replace(report, kind="DistillationStudy", covariates=report.covariates * number)
    assert words in covariates_caution(several)
    assert "n = 2" in covariates_caution(several)
