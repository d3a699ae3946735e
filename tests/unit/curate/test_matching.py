"""Corpora of the size of another one."""

from kubedistill_api.curation import CurationSpec
from kubedistill_runtime.curate import curate
from kubedistill_runtime.curate.matching import Matched
from kubedistill_runtime.curate.types import Stage, Trace

SPEC = CurationSpec.model_validate({"diversity": {"trajectories": 2}})


def traces(questions: int, samples: int = 3) -> list[Trace]:
    return [
        Trace(f"q{q}", s, (1, q, s), "<think>hm</think>42", "stop", correct=True, method="rules")
        for q in range(questions)
        for s in range(samples)
    ]


def kept(match: Matched | None, questions: int = 9, seed: int = 0) -> tuple[tuple[str, int], ...]:
    asked = [f"q{q}" for q in range(questions)]
    spec = SPEC.model_copy(update={"seed": seed})
    return curate(traces(questions), asked, {}, spec, match=match).kept


def test_as_many_questions_are_drawn_at_random_and_keep_all_their_traces() -> None:
    everything, some = kept(None), kept(Matched("questions", 4))
    assert len({question for question, _ in some}) == 4
    assert set(some) == {(q, s) for q, s in everything if q in {question for question, _ in some}}
    assert some == kept(Matched("questions", 4)) != kept(Matched("questions", 4), seed=1)
    assert set(some) < set(kept(Matched("questions", 5)))


def test_as_many_traces_are_kept_of_whole_questions_and_a_part_of_one() -> None:
    some = kept(Matched("traces", 7))
    assert len(some) == 7
    assert len({question for question, _ in some}) == 4
    assert set(some) < set(kept(None))


def test_where_fewer_are_there_all_stay() -> None:
    assert kept(Matched("questions", 99)) == kept(Matched("traces", 99)) == kept(None)


def test_what_was_beyond_the_number_is_told_so() -> None:
    asked = [f"q{q}" for q in range(9)]
    for of, stage, reason in (
        ("questions", Stage.DIFFICULTY, "not_drawn"),
        ("traces", Stage.DIVERSITY, "beyond_number"),
    ):
        outcome = curate(traces(9), asked, {}, SPEC, match=Matched(of, 2))
        dropped = {(fate.stage, fate.reason.code) for fate in outcome.questions if not fate.kept}
        assert dropped == {(stage, reason)}
        assert sum(fate.kept for fate in outcome.traces) == outcome.funnel.traces.kept
        assert {fate.question_id for fate in outcome.traces if fate.kept} == {
            fate.question_id for fate in outcome.questions if fate.kept
        }
