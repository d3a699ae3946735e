"""Which traces are shown, and how much of them."""

from hypothesis import given
from hypothesis import strategies as st

from kubedistill_runtime.report.contents import Excerpt
from kubedistill_runtime.report.excerpts import _within_budget, choose, shortened

reasons = st.dictionaries(
    st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["kept", "incorrect", "too_long", "think_tags"]), min_size=1, max_size=4),
    max_size=30,
)


@given(reasons, st.integers(1, 40))
def test_the_choice_is_of_questions_without_doubles_within_the_limit_and_always_the_same(given_reasons, limit):
    chosen = choose(given_reasons, limit)
    assert len(chosen) == len(set(chosen)) == min(limit, len(given_reasons))
    assert set(chosen) <= set(given_reasons)
    backwards = dict(reversed(given_reasons.items()))
    assert choose(backwards, limit) == chosen


@given(reasons)
def test_every_reason_is_shown_where_there_is_room(given_reasons):
    chosen = choose(given_reasons, 8)
    assert {r for q in chosen for r in given_reasons[q]} == {r for rs in given_reasons.values() for r in rs}


@given(st.text(max_size=300), st.integers(3, 100))
def test_a_shortened_text_keeps_its_start_and_its_end(text, limit):
    short, cut = shortened(text, limit)
    if len(text) <= limit:
        assert (short, cut) == (text, 0)
    else:
        head, tail = limit * 2 // 3, limit - limit * 2 // 3
        assert short.startswith(text[:head])
        assert short.endswith(text[-tail:])
        assert cut == len(text) - limit
        assert f"{cut:,} characters left out" in short


def test_the_budget_is_kept_by_whole_questions_but_for_the_first():
    entries = [Excerpt("", str(n), "", "", {}, "", ({"text": "x" * 40},)) for n in range(5)]
    assert len(_within_budget(entries, 100)) == 2
    assert len(_within_budget(entries, 10)) == 1
