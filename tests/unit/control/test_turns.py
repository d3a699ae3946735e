"""Whose turn it is: never over the places, the same for everybody who looks, and nobody waits for ever."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubedistill_api.turns import Claim, Places, Turns, granted, turns

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMESPACES = ("a", "b", "c")


def claim(namespace: str, since: float, name: str = "demo", stage: str = "train") -> Claim:
    return Claim(START + timedelta(seconds=since), namespace, ("DistillationJob", namespace, name), stage)


def chosen(places: Places, held: dict[str, int], *claims: Claim) -> list[str]:
    return [claim.namespace for claim in granted(places, held, claims)]


claims_ = st.lists(
    st.builds(claim, st.sampled_from(NAMESPACES), st.integers(0, 5), st.sampled_from("xyz"), st.sampled_from("st")),
    max_size=20,
    unique=True,
)
held_ = st.dictionaries(st.sampled_from(NAMESPACES), st.integers(0, 5))
bounds = st.one_of(st.none(), st.integers(1, 6))


def test_the_free_place_goes_to_the_namespace_with_the_fewest_under_way() -> None:
    assert chosen(Places(3), {"a": 2}, claim("a", 0), claim("b", 9)) == ["b"]


def test_among_equals_it_goes_to_who_has_waited_longest() -> None:
    assert chosen(Places(3), {"a": 1, "b": 1}, claim("b", 1), claim("a", 2)) == ["b"]
    assert chosen(Places(2), {}, claim("a", 1), claim("a", 2), claim("b", 3)) == ["a", "b"]


def test_a_namespace_at_its_own_bound_leaves_the_places_to_others() -> None:
    places = Places(total=4, per_namespace=2)
    assert chosen(places, {"a": 2}, claim("a", 0), claim("b", 1), claim("b", 2), claim("b", 3)) == ["b", "b"]
    assert chosen(Places(per_namespace=1), {}, claim("a", 0), claim("a", 1), claim("b", 2)) == ["a", "b"]


def test_what_waits_says_for_what_and_how_many_come_first() -> None:
    others = (claim("b", 0), claim("b", 1), claim("c", 5))
    seen = Turns("ClusterDistillationRuntime h100", Places(2), "a", ("own",), {"b": 2}, others)
    assert seen.refusal(0, (), claim("a", 9)) == (
        "waits for one of 2 places on ClusterDistillationRuntime h100; 1 before it"
    )
    assert seen.refusal(0, (), claim("a", 4)).endswith("; it is next")
    assert seen.refusal(0, (claim("a", 3),), claim("a", 4)).endswith("; 2 before it")
    own = Turns("DistillationRuntime r", Places(per_namespace=1), "a", ("own",), {}, others)
    assert own.refusal(1, (), claim("a", 4)) == (
        "waits for one of the 1 places of namespace a on DistillationRuntime r; it is next"
    )
    assert own.refusal(0, (), claim("a", 4)) == ""


def test_a_place_is_wanted_where_giving_it_back_lets_another_start() -> None:
    waiting = (claim("b", 0),)
    assert Turns("r", Places(1), "a", ("own",), {}, waiting).wanted(1)
    assert not Turns("r", Places(1), "a", ("own",), {}).wanted(1)
    assert not Turns("r", Places(2), "a", ("own",), {}, waiting).wanted(1)
    assert not Turns("r", Places(per_namespace=1), "a", ("own",), {"b": 1}, waiting).wanted(1)


@given(total=bounds, own=bounds, held=held_, claims=claims_)
def test_never_over_the_places_and_none_is_left_empty(
    total: int | None, own: int | None, held: dict[str, int], claims: list[Claim]
) -> None:
    order = list(turns(Places(total, own), held, claims))
    assert granted(Places(total, own), held, claims) == [turn.claim for turn in order if turn.granted]
    assert sorted(turn.claim for turn in order) == sorted(claims)
    given_ = Counter(turn.claim.namespace for turn in order if turn.granted)
    after = Counter(held) + given_
    if total is not None and given_:
        assert after.total() <= total
    if own is not None:
        assert all(after[name] <= own for name in given_)
    full = total is not None and after.total() >= total
    for turn in order:
        if not turn.granted:
            assert full or (own is not None and after[turn.claim.namespace] >= own)


@given(held=held_, claims=claims_, total=bounds, own=bounds, seed=st.randoms())
def test_the_order_is_the_same_for_everybody(
    held: dict[str, int], claims: list[Claim], total: int | None, own: int | None, seed: random.Random
) -> None:
    order = list(turns(Places(total, own), held, claims))
    mixed = seed.sample(claims, len(claims))
    assert [(t.claim, t.granted, t.before) for t in turns(Places(total, own), held, mixed)] == [
        (t.claim, t.granted, t.before) for t in order
    ]
    # What one finds for itself is what another finds for it.
    for turn in order:
        others = tuple(one for one in claims if one != turn.claim)
        seen = Turns("r", Places(total, own), turn.claim.namespace, turn.claim.who, held, others)
        assert (seen.refusal(0, (), turn.claim) == "") is turn.granted


@pytest.mark.parametrize("own", [None, 2])
@given(seed=st.integers(0, 10_000), total=st.integers(1, 4), longest=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_nobody_waits_for_ever_beside_namespaces_that_never_stop_asking(
    own: int | None, seed: int, total: int, longest: int
) -> None:
    """Each stage takes `longest` steps at most. Every so many steps a place is given, and once the namespace holds none
    any more, only an older claim comes first: that bounds the wait of a claim by the number of older ones."""
    rng = random.Random(seed)
    places, running, waiting = Places(total, own), [], []
    made: dict[Claim, tuple[int, int]] = {}
    for step in range(150):
        running = [(name, left - 1) for name, left in running if left > 1]
        for name in NAMESPACES:
            for _ in range(rng.choice((0, 1, 3) if name == "a" else (0, 0, 1))):
                if len(waiting) < 12:
                    one = claim(name, step, str(len(made)))
                    made[one] = (step, len(waiting))
                    waiting.append(one)
        for one in granted(places, Counter(name for name, _ in running), waiting):
            waiting.remove(one)
            running.append((one.namespace, rng.randint(1, longest)))
        assert len(running) <= total
        for one in waiting:
            since, older = made[one]
            assert step - since <= longest * (2 * older + 3), one
