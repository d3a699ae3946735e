"""Overlap of questions with benchmarks."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from kubedistill_runtime.data.decontaminate import Overlap, tokens

WORDS = st.lists(st.sampled_from(["a", "b", "c", "x1", "+", "42"]), min_size=0, max_size=12)


def overlaps(question: str, benchmark: str, n: int) -> bool:
    return bool(Overlap({"b": [benchmark]}, n).of(question))


def naive(question: list[str], benchmark: list[str], n: int) -> bool:
    """What the definition says, word by word."""
    if not question or not benchmark:
        return False

    def contains(long: list[str], short: list[str]) -> bool:
        return any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1))

    if len(question) < n and contains(benchmark, question):
        return True
    if len(benchmark) < n and contains(question, benchmark):
        return True
    return any(contains(benchmark, question[i : i + n]) for i in range(len(question) - n + 1))


@settings(deadline=None, max_examples=400)
@given(WORDS, WORDS, st.integers(1, 6))
def test_the_fast_way_says_what_the_definition_says(question: list[str], benchmark: list[str], n: int) -> None:
    left, right = " ".join(question), " ".join(benchmark)
    assert overlaps(left, right, n) == naive(tokens(left), tokens(right), n)


@settings(deadline=None)
@given(st.text(min_size=1), st.integers(1, 20))
def test_a_text_overlaps_with_itself_unless_it_has_no_token(text: str, n: int) -> None:
    assert overlaps(text, text, n) == bool(tokens(text))


@settings(deadline=None)
@given(WORDS.filter(lambda words: len(words) >= 4), WORDS, WORDS)
def test_text_around_it_does_not_hide_an_overlap(shared: list[str], before: list[str], after: list[str]) -> None:
    question = " ".join([*before, *shared, *after])
    assert overlaps(question, " ".join(shared), 4)


@settings(deadline=None)
@given(WORDS, WORDS, st.integers(2, 8))
def test_a_shorter_run_that_counts_finds_no_less(question: list[str], benchmark: list[str], n: int) -> None:
    # Only for texts of at least n tokens: a shorter text is compared as a whole, which asks for less than n.
    if len(tokens(" ".join(question))) >= n and len(tokens(" ".join(benchmark))) >= n:
        longer = overlaps(" ".join(question), " ".join(benchmark), n)
        assert overlaps(" ".join(question), " ".join(benchmark), n - 1) >= longer


def test_case_spacing_and_unicode_forms_do_not_count() -> None:
    assert overlaps("FIND   the\nvalue of x²", "find the value of x2", 4)


def test_numbers_and_symbols_count() -> None:
    assert tokens("2x+3=7, \\frac{1}{12}") == [
        "2",
        "x",
        "+",
        "3",
        "=",
        "7",
        ",",
        "\\",
        "frac",
        "{",
        "1",
        "}",
        "{",
        "12",
        "}",
    ]
    assert not overlaps("Compute 1 + 2 + 3.", "Compute 1 + 2 + 4.", 13)


def test_every_benchmark_that_overlaps_is_named_in_order() -> None:
    overlap = Overlap({"x": ["one two three four"], "y": ["nothing"], "z": ["two three four five"]}, 3)
    assert overlap.of("zero one two three four five") == ["x", "z"]
    assert overlap.of("nothing at all") == ["y"]
    assert overlap.of("") == []


def test_without_benchmarks_nothing_overlaps() -> None:
    assert Overlap({}, 13).of("anything") == []


def test_time_grows_with_the_questions_and_not_with_the_benchmarks() -> None:
    words = [f"w{i % 997}" for i in range(200_000)]
    questions = [" ".join(reversed(words[i : i + 60])) for i in range(2_000)]

    def seconds(benchmark_words: int) -> float:
        overlap = Overlap({"b": (" ".join(words[i : i + 80]) for i in range(0, benchmark_words, 80))}, 13)
        overlap.of(questions[0])
        started = time.process_time()
        assert not any(map(overlap.of, questions))
        return time.process_time() - started

    assert seconds(160_000) < 5 * seconds(8_000)
