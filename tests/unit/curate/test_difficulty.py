import random

import pytest
from pydantic import ValidationError

from kubedistill_api.curation import CurationSpec, DifficultySpec, DiversitySpec
from kubedistill_runtime.curate.difficulty import too_easy
from kubedistill_runtime.curate.types import PassRate

RATES = {f"q{k}": PassRate(k, 8) for k in range(9)}


def kept(spec, questions=RATES, rates=RATES, seed=0):
    return sorted(set(questions) - set(too_easy(questions, rates, spec, seed)))


def test_without_a_rule_every_question_stays_even_unmeasured_ones():
    assert kept(DifficultySpec(), rates={}) == sorted(RATES)


def test_the_threshold_is_inclusive_and_never_drops_an_unsolved_question():
    assert kept(DifficultySpec(max_pass_rate=0.25)) == ["q0", "q1", "q2"]
    assert kept(DifficultySpec(max_pass_rate=0)) == ["q0"]


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.28, 3), (0.5, 5), (1, 9)])
def test_the_hardest_share_is_rounded_and_never_empty(share, count):
    assert kept(DifficultySpec(keep_hardest=share)) == [f"q{k}" for k in range(count)]


@pytest.mark.parametrize("spec", [DifficultySpec(max_pass_rate=1), DifficultySpec(keep_hardest=1)])
@pytest.mark.parametrize("missing", [{}, {"new": PassRate(0, 0)}])
def test_a_question_without_samples_of_the_student_is_dropped_by_either_rule(spec, missing):
    dropped = too_easy([*RATES, "new"], RATES | missing, spec, 0)
    assert {question: reason.code for question, reason in dropped.items()} == {"new": "unmeasured"}


def test_ties_are_broken_by_the_seed_and_not_by_the_order():
    questions = [f"q{k}" for k in range(40)]
    rates = dict.fromkeys(questions, PassRate(1, 2))
    spec = DifficultySpec(keep_hardest=0.5)
    shuffled = random.Random(1).sample(questions, len(questions))
    assert kept(spec, questions, rates) == kept(spec, shuffled, rates)
    assert len(kept(spec, questions, rates)) == 20
    assert kept(spec, questions, rates) != kept(spec, questions, rates, seed=1)


def test_more_than_all_solved_is_refused():
    with pytest.raises(ValueError, match="3 of 2"):
        PassRate(3, 2)


def test_two_rules_at_once_are_refused_with_the_way_out():
    with pytest.raises(ValidationError, match="set one of them"):
        DifficultySpec.model_validate({"maxPassRate": 0.6, "keepHardest": 0.28})


@pytest.mark.parametrize(
    "difficulty", [{"keepHardest": 0}, {"keepHardest": 1.1}, {"maxPassRate": -0.1}, {"samples": 0}, {"share": 1}]
)
def test_values_out_of_range_and_misspelt_fields_are_refused(difficulty):
    with pytest.raises(ValidationError):
        CurationSpec.model_validate({"difficulty": difficulty})


def test_the_manifest_of_the_documentation_is_read():
    spec = CurationSpec.model_validate(
        {
            "quality": {"maxTokens": 16384, "think": "strict"},
            "difficulty": {"samples": 8, "maxPassRate": 0.6},
            "diversity": {"trajectories": 4, "metric": "levenshtein", "unit": "token", "select": "farthest"},
        }
    )
    assert spec.difficulty.max_pass_rate == 0.6
    assert spec.diversity == DiversitySpec()
