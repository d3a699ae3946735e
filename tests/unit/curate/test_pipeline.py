import random
from array import array
from dataclasses import asdict, replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubedistill_api.curation import CurationSpec, DifficultySpec, DiversitySpec, QualitySpec
from kubedistill_runtime.curate import PassRate, Stage, Trace, curate
from kubedistill_runtime.curate.records import from_batches
from kubedistill_runtime.errors import BadInput

SPEC = CurationSpec(difficulty=DifficultySpec(max_pass_rate=0.5), diversity=DiversitySpec(trajectories=2))


def trace(question="q", index=0, tokens=(1, 2, 3), **changes):
    base = Trace(question, index, tokens, "<think>hm</think>42", "stop", correct=True, method="rules")
    return replace(base, **changes)


@st.composite
def corpora(draw):
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1))
    traces = [
        trace(
            question,
            index,
            draw(st.lists(st.integers(0, 2), min_size=1, max_size=5)),
            finish_reason=draw(st.sampled_from(["stop", "stop", "stop", "length"])),
            correct=draw(st.booleans()),
            error=draw(st.sampled_from(["", "", "timeout"])),
            surplus=draw(st.sampled_from([False, False, False, True])),
        )
        for question in names
        for index in range(draw(st.integers(0, 5)))
    ]
    rates = {question: PassRate(draw(st.integers(0, 4)), 4) for question in names if draw(st.booleans())}
    difficulty = draw(
        st.sampled_from([DifficultySpec(), DifficultySpec(max_pass_rate=0.5), DifficultySpec(keep_hardest=0.5)])
    )
    how = draw(st.sampled_from(["farthest", "random", "shortest", "longest"]))
    spec = CurationSpec(difficulty=difficulty, diversity=DiversitySpec(trajectories=2, select=how))
    return traces, names, rates, spec


@given(corpora(), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_every_trace_and_question_has_one_fate_and_the_sums_add_up(corpus, rng):
    traces, names, rates, spec = corpus
    outcome = curate(traces, names, rates, spec)
    assert [(f.question_id, f.sample_index) for f in outcome.traces] == sorted(
        (t.question_id, t.sample_index) for t in traces
    )
    assert [f.question_id for f in outcome.questions] == sorted(names)
    reasons = [f.reason for f in outcome.traces] + [f.reason for f in outcome.questions]
    assert all(reason.code and reason.text for reason in reasons)

    funnel = outcome.funnel
    assert funnel.questions == len(names)
    assert funnel.surplus + funnel.traces.sampled == len(traces)
    for counts in (funnel.traces, funnel.of_questions):
        steps = list(asdict(counts).values())
        assert steps == sorted(steps, reverse=True)
    dropped = {stage: sum(f.stage is stage for f in outcome.traces) for stage in Stage}
    assert funnel.traces.well_formed == funnel.traces.sampled - dropped[Stage.QUALITY]
    assert funnel.traces.correct == funnel.traces.well_formed - dropped[Stage.CORRECTNESS]
    assert funnel.traces.hard == funnel.traces.correct - dropped[Stage.DIFFICULTY]
    assert funnel.traces.kept == funnel.traces.hard - dropped[Stage.DIVERSITY] == len(outcome.kept)
    assert funnel.of_questions.kept == sum(f.kept for f in outcome.questions)

    kept = set(outcome.kept)
    for fate in outcome.questions:
        chosen = {index for question, index in kept if question == fate.question_id}
        assert fate.kept == bool(chosen)
        assert chosen == set(fate.selection.chosen if fate.selection else ())
        assert len(chosen) <= 2

    again = curate(rng.sample(traces, len(traces)), rng.sample(names, len(names)), rates, spec)
    assert again == outcome


@pytest.mark.parametrize(
    ("changes", "stage", "code"),
    [
        ({}, Stage.KEPT, "all_kept"),
        ({"surplus": True, "correct": False}, Stage.SAMPLING, "surplus"),
        ({"finish_reason": "length", "correct": False}, Stage.QUALITY, "truncated"),
        ({"response": "42"}, Stage.QUALITY, "think_tags"),
        ({"correct": False}, Stage.CORRECTNESS, "incorrect"),
        ({"correct": False, "error": "timeout"}, Stage.CORRECTNESS, "unverified"),
    ],
)
def test_a_trace_ends_at_the_first_stage_that_has_something_against_it(changes, stage, code):
    (fate,) = curate([trace(**changes)], ["q"], {"q": PassRate(0, 8)}, SPEC).traces
    assert (fate.stage, fate.reason.code) == (stage, code)


@pytest.mark.parametrize(
    ("traces", "solved", "stage", "code"),
    [
        ([], 0, Stage.SAMPLING, "not_sampled"),
        ([trace(surplus=True)], 0, Stage.SAMPLING, "not_sampled"),
        ([trace(response="42"), trace(index=1, surplus=True)], 0, Stage.QUALITY, "none_well_formed"),
        ([trace(correct=False), trace(index=1, response="42")], 0, Stage.CORRECTNESS, "none_correct"),
        ([trace(response="42"), trace(index=1, correct=False)], 0, Stage.CORRECTNESS, "none_correct"),
        ([trace()], 8, Stage.DIFFICULTY, "too_easy"),
        ([trace(), trace(index=1, correct=False)], 0, Stage.KEPT, "kept"),
    ],
)
def test_a_question_ends_where_its_last_trace_ends(traces, solved, stage, code):
    (fate,) = curate(traces, ["q"], {"q": PassRate(solved, 8)}, SPEC).questions
    assert (fate.stage, fate.reason.code, fate.pass_rate) == (stage, code, solved / 8)


def test_traces_of_an_easy_question_tell_why():
    outcome = curate([trace(), trace(index=1, correct=False)], ["q"], {"q": PassRate(8, 8)}, SPEC)
    assert [fate.reason.code for fate in outcome.traces] == ["too_easy", "incorrect"]


def test_the_hardest_share_is_taken_of_the_questions_with_a_correct_trace():
    names = [f"q{k}" for k in range(10)]
    traces = [trace(question, correct=k >= 4) for k, question in enumerate(names)]
    rates = {question: PassRate(k, 10) for k, question in enumerate(names)}
    outcome = curate(traces, names, rates, CurationSpec(difficulty=DifficultySpec(keep_hardest=0.5)))
    assert outcome.kept == (("q4", 0), ("q5", 0), ("q6", 0))


def test_the_farthest_are_kept_and_the_others_say_so():
    tokens = {0: [1, 1, 1, 1], 1: [1, 1, 1, 2], 2: [5, 6, 7, 8]}
    outcome = curate([trace(index=i, tokens=t) for i, t in tokens.items()], ["q"], {"q": PassRate(0, 1)}, SPEC)
    assert [fate.reason.code for fate in outcome.traces] == ["farthest", "not_farthest", "farthest"]
    assert outcome.questions[0].selection.min_distance == 1.0


def test_the_unit_decides_whether_tokens_or_characters_are_compared():
    traces = [
        trace(index=0, tokens=[1, 2], response="<think>aaaa</think>1"),
        trace(index=1, tokens=[3, 4], response="<think>aaab</think>1"),
        trace(index=2, tokens=[1, 4], response="<think>bbbb</think>1"),
    ]
    rates = {"q": PassRate(0, 1)}
    chars = SPEC.model_copy(update={"diversity": DiversitySpec(trajectories=2, unit="char")})
    assert [index for _, index in curate(traces, ["q"], rates, SPEC).kept] == [0, 1]
    assert [index for _, index in curate(traces, ["q"], rates, chars).kept] == [0, 2]


def test_wrong_traces_pass_only_as_a_control():
    wrong = trace(correct=False)
    rates = {"q": PassRate(0, 1)}
    assert not curate([wrong], ["q"], rates, SPEC).kept
    assert curate([wrong], ["q"], rates, SPEC.model_copy(update={"correctness": "any"})).kept
    only_wrong = SPEC.model_copy(update={"correctness": "wrong"})
    outcome = curate(
        [wrong, trace(index=1), trace(index=2, correct=False, error="no answer")], ["q"], rates, only_wrong
    )
    assert outcome.kept == (("q", 0),)
    assert [fate.reason.code for fate in outcome.traces] == ["all_kept", "correct", "unverified"]


def test_a_template_that_opens_the_thinking_is_allowed_for():
    opened = trace(response="hm</think>42")
    rates = {"q": PassRate(0, 1)}
    assert not curate([opened], ["q"], rates, SPEC).kept
    assert curate([opened], ["q"], rates, SPEC, prompt_opens_think=True).kept


@pytest.mark.parametrize(
    ("traces", "message"),
    [
        ([trace("other")], "no such question"),
        ([trace(), trace(correct=False)], "is there twice"),
        ([trace(correct=False), trace()], "is there twice"),
        ([trace(tokens=())], "no responseTokenIds"),
    ],
)
def test_traces_that_cannot_be_are_refused(traces, message):
    with pytest.raises(BadInput, match=message):
        curate(traces, ["q"], {}, CurationSpec())


def test_arrow_batches_give_the_traces_that_went_in():
    rng = random.Random(0)
    records = [
        {
            "question_id": f"q{k // 3}",
            "sample_index": k % 3,
            "prompt_token_ids": [1, 2],
            "response_token_ids": [rng.randrange(150_000) for _ in range(k)],
            "response": "é" * k,
            "finish_reason": "stop",
            "correct": k % 2 == 0,
            "method": "rules",
            "error": None,
            "surplus": False,
        }
        for k in range(20)
    ]
    for ids in (pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.list_(pa.uint32())):
        table = pa.Table.from_pylist(records)
        column = table.column("response_token_ids").cast(ids)
        table = table.set_column(table.schema.get_field_index("response_token_ids"), "response_token_ids", column)
        read = list(from_batches(table.slice(3).to_batches(max_chunksize=4)))
        assert read == [
            replace(Trace.from_record(r), response_token_ids=array("I", r["response_token_ids"])) for r in records[3:]
        ]


def test_a_looping_trace_is_dropped_where_repetition_is_limited():
    looping = trace(tokens=[1, 2, 3] * 100)
    spec = CurationSpec(quality=QualitySpec(max_repetition=0.2))
    (fate,) = curate([looping], ["q"], {}, spec).traces
    assert fate.reason.code == "repetitive"
