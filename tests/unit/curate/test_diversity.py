import math
import random
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from kubedistill_api.curation import DiversitySpec
from kubedistill_runtime.curate import distance
from kubedistill_runtime.curate.distance import PairTable, cuts, encode
from kubedistill_runtime.curate.diversity import farthest, select
from kubedistill_runtime.curate.types import Selection


def brute_force(traces, count, normalised):
    """All pairs in full, all subsets; the definition of the result."""

    def measure(a, b):
        longest = max(len(a), len(b), 1) if normalised else 1
        return Levenshtein.distance(a, b) / longest

    best = max(
        combinations(sorted(traces), count),
        key=lambda members: (
            (d := sorted(measure(traces[i], traces[j]) for i, j in combinations(members, 2)))[0],
            sum(d),
            [-member for member in members],
        ),
    )
    distances = [measure(traces[i], traces[j]) for i, j in combinations(best, 2)]
    return best, min(distances), math.fsum(distances) / len(distances)


def siblings(seed, count, length, alphabet=60, spread=0.2):
    """Long sequences of random tokens that share phrases, so that bounds and anchors have work to do."""
    rng = random.Random(seed)
    phrases = [[rng.randrange(alphabet) for _ in range(rng.randrange(3, 30))] for _ in range(40)]
    traces = {}
    for index in range(count):
        tokens = []
        while len(tokens) < length * rng.uniform(1 - spread, 1 + spread):
            tokens += rng.choice(phrases) if rng.random() < 0.7 else [rng.randrange(alphabet) for _ in range(9)]
        traces[index] = tokens
    return traces


token_lists = st.lists(st.integers(0, 3) | st.sampled_from([151_000, 70_000]), max_size=12)
texts = st.text("ab\U0001f600\ud800é", max_size=12)
groups = st.one_of(st.lists(token_lists, min_size=3, max_size=7), st.lists(texts, min_size=3, max_size=7))


@given(groups, st.integers(2, 4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_farthest_traces_are_those_of_a_search_through_everything(group, count, normalised):
    traces = dict(enumerate(group))
    count = min(count, len(group))
    chosen, least, mean = brute_force(traces, count, normalised)
    result = farthest(traces, count, normalised=normalised)
    assert (result.chosen, result.min_distance, result.exact) == (chosen, least, True)
    assert result.mean_distance == pytest.approx(mean)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("normalised", [True, False])
def test_bounds_rule_pairs_out_without_changing_the_result(seed, normalised):
    traces = siblings(seed, 10, 2600, spread=0.02 if seed % 2 else 0.3)
    chosen, least, mean = brute_force(traces, 3, normalised)
    result = farthest(traces, 3, normalised=normalised)
    assert (result.chosen, result.min_distance) == (chosen, least)
    assert result.mean_distance == pytest.approx(mean)
    assert result.measured < 45


def test_bounds_serve_texts_as_well_as_tokens():
    traces = {i: "".join(chr(97 + t % 26) for t in tokens) for i, tokens in siblings(1, 8, 2600).items()}
    result = farthest(traces, 3, normalised=True)
    assert (result.chosen, result.min_distance) == brute_force(traces, 3, True)[:2]
    assert result.measured < 28


@given(st.lists(token_lists, min_size=2, max_size=5))
def test_encoding_keeps_every_distance(group):
    for (a, b), (x, y) in zip(combinations(group, 2), combinations(encode(group), 2), strict=True):
        assert Levenshtein.distance(a, b) == Levenshtein.distance(x, y)
        assert (len(a), len(b)) == (len(x), len(y))


def test_encoding_gives_the_shortest_names_to_the_most_frequent_and_steps_over_surrogates():
    assert encode([[7, 9, 9], [9, 5]]) == ["\x02\x00\x00", "\x00\x01"]
    (wide,) = encode([np.arange(70_000)])
    assert len(set(wide)) == 70_000
    wide.encode("utf-8")


@pytest.mark.parametrize("ids", [[-1], [2**24], [2**40]])
def test_encoding_refuses_what_cannot_be_a_token(ids):
    with pytest.raises(ValueError, match="token ids must lie between"):
        encode([[1, 2], ids])


@pytest.mark.parametrize("pieces", [2, 4, 16])
def test_cuts_ascend_from_end_to_end(pieces):
    for a, b in combinations(encode(list(siblings(3, 5, 700, spread=0.9).values())), 2):
        places = cuts(a, b, pieces, 5)
        assert places[0] == (0, 0)
        assert places[-1] == (len(a), len(b))
        assert len(places) == pieces + 1
        for one, other in pairwise(places):
            assert one[0] <= other[0]
            assert one[1] <= other[1]


def test_every_bound_is_above_the_distance_and_falls_to_it():
    sequences = encode(list(siblings(4, 4, 3000).values()))
    table = PairTable(sequences, normalised=False, gram=5)
    exact = [Levenshtein.distance(a, b) for a, b in combinations(sequences, 2)]
    for pair, value in enumerate(exact):
        bounds = [table.upper[pair]]
        while not table.is_exact(pair):
            table.tighten(pair)
            bounds.append(table.upper[pair])
        assert len(bounds) == len(distance.PIECES)
        assert bounds == sorted(bounds, reverse=True)
        assert bounds[-1] == value
        table.tighten(pair)
        assert table.upper[pair] == value
    assert table.measured == len(exact)


@given(st.lists(token_lists, min_size=5, max_size=8), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_traces_does_not_matter(group, rng):
    traces = dict(enumerate(group))
    shuffled = dict(rng.sample(list(traces.items()), len(traces)))
    for how in ("farthest", "random", "shortest", "longest"):
        spec = DiversitySpec(trajectories=3, select=how)
        assert select("q", traces, spec, 1) == select("q", shuffled, spec, 1)


@pytest.mark.parametrize("how", ["farthest", "random", "shortest", "longest"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_all_are_kept_where_no_more_are_left_than_asked_for(how, count):
    traces = {5 * i: [i] for i in range(count)}
    spec = DiversitySpec(trajectories=3, select=how)
    assert select("q", traces, spec, 0) == Selection(tuple(sorted(traces)))


def test_duplicates_are_chosen_only_when_nothing_else_is_left():
    copy, other, third = [1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 7, 8]
    traces = {0: copy, 1: copy, 2: copy, 3: other, 4: third}
    assert farthest(traces, 3, normalised=True).chosen == (0, 3, 4)
    assert farthest(traces, 4, normalised=True) == Selection((0, 1, 3, 4), True, 0.0, 3.5 / 6, 10)
    assert farthest(dict.fromkeys(range(6), copy), 3, normalised=True).chosen == (0, 1, 2)


def test_raw_distances_favour_long_traces_and_normalised_ones_do_not():
    traces = {0: [0] * 10, 1: [1] * 10, 2: [0] * 200, 3: [0] * 100}
    assert farthest(traces, 2, normalised=True).chosen == (0, 1)
    assert farthest(traces, 2, normalised=False).chosen == (1, 2)


def test_characters_and_tokens_can_disagree():
    words = ["aaaaaaaaaaaa", "b", "c"]
    tokens = {0: [0, 1], 1: [0, 2], 2: [1, 2]}
    texts_of = {i: "".join(words[t] for t in ids) for i, ids in tokens.items()}
    assert farthest(tokens, 2, normalised=False).min_distance == 2
    assert farthest(texts_of, 2, normalised=False).min_distance == 13


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("length", [40, 2300])
def test_the_greedy_choice_says_so_and_follows_its_definition(normalised, length):
    traces = siblings(7, 9, length)
    result = farthest(traces, 4, normalised=normalised, limit=10)
    chosen = list(brute_force(traces, 2, normalised)[0])
    while len(chosen) < 4:

        def gain(index, chosen=tuple(chosen)):
            d = sorted(brute_force({0: traces[index], 1: traces[c]}, 2, normalised)[1] for c in chosen)
            return d[0], sum(d), -index

        chosen.append(max(set(traces) - set(chosen), key=gain))
    assert result.chosen == tuple(sorted(chosen))
    assert not result.exact
    best = farthest(traces, 4, normalised=normalised)
    assert best.exact
    assert result.min_distance <= best.min_distance
    assert normalised or result.min_distance >= best.min_distance / 2


def test_random_draws_change_with_the_seed_and_the_question_and_reach_every_trace():
    traces = {i: [i] for i in range(8)}
    spec = DiversitySpec(trajectories=2, select="random")
    draws = [select("q", traces, spec, seed).chosen for seed in range(200)]
    assert draws == [select("q", traces, spec, seed).chosen for seed in range(200)]
    assert draws != [select("p", traces, spec, seed).chosen for seed in range(200)]
    seen = Counter(index for chosen in draws for index in chosen)
    assert set(seen) == set(traces)
    assert max(seen.values()) < 100


def test_shortest_and_longest_go_by_length_and_then_by_index():
    traces = {3: "aa", 1: "aa", 2: "a", 0: "aaaa"}
    assert select("q", traces, DiversitySpec(trajectories=2, select="shortest"), 0).chosen == (1, 2)
    assert select("q", traces, DiversitySpec(trajectories=2, select="longest"), 0).chosen == (0, 1)


def test_a_single_trajectory_needs_no_distance():
    assert select("q", {4: [1], 2: [2, 3]}, DiversitySpec(trajectories=1), 0) == Selection((2,))
