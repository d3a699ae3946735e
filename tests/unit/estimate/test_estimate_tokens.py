"""Numbers of questions, responses and tokens."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubedistill_api.curation import CurationSpec, DifficultySpec
from kubedistill_api.data import QuestionSource, SamplingSpec, TeacherSampling
from kubedistill_api.training import TrainingSpec
from kubedistill_runtime.estimate import tokens as t


def test_local_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("{}\n\n{}\n{}")
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "q.parquet")
    assert t.count_questions(QuestionSource(uri=str(tmp_path / "q.jsonl"))) == t.Count(3, "counted")
    assert t.count_questions(QuestionSource(uri=str(tmp_path / "q.jsonl"), limit=2)) == t.Count(2, "counted")
    assert t.count_questions(QuestionSource(uri=str(tmp_path / "q.parquet"))) == t.Count(2, "counted")
    assert t.count_questions(QuestionSource(uri="embedded://questions/train.jsonl")).value == 300


@pytest.mark.parametrize(
    ("uri", "limit", "expected"),
    [
        ("hf://simplescaling/s1K-1.1", None, t.Count(1000, "known")),
        ("hf://HuggingFaceH4/aime_2024", None, t.Count(30, "known")),
        ("hf://yentinglin/aime_2025", None, t.Count(30, "known")),
        ("hf://HuggingFaceH4/MATH-500", 100, t.Count(100, "known")),
        ("hf://org/set", 50, t.Count(50, "limit")),
        ("hf://org/set", None, t.Count(1000, "assumed")),
        ("/missing/q.jsonl", None, t.Count(1000, "assumed")),
    ],
)
def test_other_sources_are_known_limited_or_assumed(uri: str, limit: int | None, expected: t.Count) -> None:
    assert t.count_questions(QuestionSource(uri=uri, limit=limit)) == expected


def test_stopping_early_draws_less_but_never_more_than_all() -> None:
    assert t.draws_per_question(TeacherSampling(samples=16)) == 16
    assert t.draws_per_question(TeacherSampling(samples=16, stop_after_verified=6)) == pytest.approx(10)
    assert t.draws_per_question(TeacherSampling(samples=16, stop_after_verified=15)) == 16


def test_tokens_are_requests_times_the_mean_response() -> None:
    drawn = t.sampling_tokens(1000, 16, 16384)
    assert drawn.requests == 16000
    assert drawn.completion == pytest.approx(16000 * 0.4 * 16384)
    assert t.sampling_tokens(1000, 16, 16384, mean=100).completion == 1_600_000


def test_sums_weigh_the_mean_by_requests() -> None:
    total = t.add(t.draws(SamplingSpec(samples=8, max_tokens=1000), 10), t.draws(SamplingSpec(max_tokens=100), 10))
    assert total.requests == 160
    assert total.mean_response == pytest.approx((80 * 400 + 80 * 40) / 160)
    assert t.add().requests == 0


def test_the_paper_s_recipe_gives_about_the_paper_s_corpus() -> None:
    """965 traces of 237 questions in DED's table 3."""
    curation = CurationSpec(difficulty=DifficultySpec(keep_hardest=0.286))
    sampling = TeacherSampling(samples=16)
    assert t.corpus_size(1000, sampling, curation) == pytest.approx(965, rel=0.03)


def test_without_difficulty_every_solved_question_stays() -> None:
    curation = CurationSpec()
    assert t.corpus_size(1000, TeacherSampling(samples=16), curation) == pytest.approx(4 * 830)
    assert t.corpus_size(1000, TeacherSampling(samples=1), curation) == 600


def test_the_paper_s_training_has_about_200_steps() -> None:
    trained = t.training_tokens(965, 12_400, TrainingSpec(epochs=10, global_batch_size=48))
    assert trained.steps == 210
    assert trained.training == pytest.approx(965 * 12_550 * 10, rel=1e-3)


def test_measuring_reads_the_corpus_once_and_some_beginnings_twice() -> None:
    measured = t.training_tokens(965, 12_400, TrainingSpec(epochs=10)).measured
    assert measured == 965 * 12_550 + 2 * 100 * 128
    assert t.training_tokens(965, 12_400, TrainingSpec(epochs=1)).measured == measured, "whatever the epochs are"
    assert t.with_steps(t.training_tokens(965, 12_400, TrainingSpec()), 7).measured == measured
    # Of few and short traces there is no more than they have.
    assert t.training_tokens(3, 20, TrainingSpec(), mean_prompt=30).measured == 3 * 50 + 2 * 3 * 50
    assert t.training_tokens(965, 12_400, TrainingSpec(measure_corpus=False)).measured == 0


def test_max_steps_cut_the_tokens() -> None:
    whole = t.training_tokens(960, 1000, TrainingSpec(epochs=10, global_batch_size=48))
    half = t.training_tokens(960, 1000, TrainingSpec(epochs=10, global_batch_size=48, max_steps=100))
    assert (whole.steps, half.steps) == (200, 100)
    assert half.training * 2 == whole.training
