"""How many tokens each stage will read and draw.

What is not known before a run is an assumption, named here and shown by `plan`; results of earlier stages replace it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kubedistill_api.benchmarks import PRESETS, preset_at
from kubedistill_api.curation import CurationSpec
from kubedistill_api.data import QuestionSource, SamplingSpec, TeacherSampling
from kubedistill_api.harness import HarnessTask
from kubedistill_api.training import TrainingSpec
from kubedistill_runtime.data.rows import JSONL_SUFFIXES, PARQUET_SUFFIXES
from kubedistill_runtime.data.storage import local_path
from kubedistill_runtime.train.shift import PROMPTS, TOKENS

MEAN_SHARE = 0.4
"""Mean response over maxTokens. DED's students use 10k to 16k of 32k on AIME, its teacher 12.4k on s1K."""
PROMPT_TOKENS = 150
"""Mean prompt with its template; s1K and AIME have 100 to 200."""
VERIFIED_SHARE = 0.6
"""Of the teacher's responses that are correct; s1K-1.1 has 0.63, DED's teacher more."""
SOLVED_SHARE = 0.83
"""Of the questions with at least one correct response: 830 of 1000 in DED's table 3."""
HARD_SHARE = 0.28
"""Of the solved questions that are hard for the student: 237 of 830 in DED's table 3."""
HARNESS_TOKENS = 256
"""Longest response where neither a harness task nor its entry says one: the harness's default."""
DEFAULT_QUESTIONS = 1000
KNOWN_SIZES = (
    (r"s1k", 1000),
    (r"aime.*(24|25)|(24|25).*aime", 30),
    (r"math-?500", 500),
    (r"gpqa.*diamond", 198),
    (r"gsm8k", 1319),
)
"""Rows of well-known sets, by their name in lower case, where they are no preset: copies of them, and s1K."""


@dataclass(frozen=True)
class Count:
    """A number of questions and where it comes from."""

    value: int
    basis: str
    """`counted`, `limit`, `known`, `assumed` or `result`."""


@dataclass(frozen=True)
class Tokens:
    """What one stage reads and draws, or trains on."""

    requests: int = 0
    prompt: int = 0
    completion: int = 0
    training: int = 0
    """Counted once per epoch."""
    measured: int = 0
    """Read in forward passes alone, before and after the training."""
    steps: int = 0
    mean_response: float = 0


def count_questions(source: QuestionSource) -> Count:
    """Rows of a source: counted in a local file, else its limit, else by the name of a known set, else a default."""
    rows = _count_rows(source.uri)
    if rows is not None:
        return Count(min(rows, source.limit or rows), "counted")
    preset = preset_at(source.uri, source.subset, source.split)
    if preset:
        size = PRESETS[preset].questions
        return Count(min(size, source.limit or size), "known")
    name = f"{source.uri} {source.subset or ''}".lower()
    for pattern, size in KNOWN_SIZES:
        if re.search(pattern, name):
            return Count(min(size, source.limit or size), "known")
    return Count(source.limit, "limit") if source.limit else Count(DEFAULT_QUESTIONS, "assumed")


def _count_rows(uri: str) -> int | None:
    path = local_path(uri)
    if path is None or not path.is_file():
        return None
    if uri.endswith(PARQUET_SUFFIXES):
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return int(pq.read_metadata(path).num_rows)
        except (pa.ArrowInvalid, OSError):
            return None
    if uri.endswith(JSONL_SUFFIXES) and not uri.endswith(".gz"):
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    return None


def draws_per_question(sampling: TeacherSampling, verified_share: float = VERIFIED_SHARE) -> float:
    """Responses drawn until enough are verified, at most all."""
    if sampling.stop_after_verified is None:
        return sampling.samples
    return min(sampling.samples, sampling.stop_after_verified / max(verified_share, 1e-9))


def sampling_tokens(questions: int, per_question: float, max_tokens: int, mean: float | None = None) -> Tokens:
    """Tokens of drawing `per_question` responses each. `mean` is a measured mean length, where there is one."""
    requests = round(questions * per_question)
    response = mean or max(1.0, MEAN_SHARE * max_tokens)
    return Tokens(
        requests=requests,
        prompt=requests * PROMPT_TOKENS,
        completion=round(requests * response),
        mean_response=response,
    )


def add(*parts: Tokens) -> Tokens:
    """The sum of several draws; the mean response is weighted by requests."""
    requests = sum(part.requests for part in parts)
    completion = sum(part.completion for part in parts)
    return Tokens(
        requests=requests,
        prompt=sum(part.prompt for part in parts),
        completion=completion,
        mean_response=completion / requests if requests else 0,
    )


def draws(spec: SamplingSpec, questions: int) -> Tokens:
    """Tokens of drawing all samples for each question."""
    return sampling_tokens(questions, spec.samples, spec.max_tokens)


def harness_draws(task: HarnessTask, questions: int) -> Tokens:
    """Tokens of one response to each question. A task that scores options draws none, and reads more instead."""
    prompt = PROMPT_TOKENS * (1 + (task.num_fewshot or 0))
    drawn = sampling_tokens(questions, 1, task.max_tokens or HARNESS_TOKENS)
    return replace(drawn, prompt=questions * prompt)


def corpus_size(questions: int, sampling: TeacherSampling, curation: CurationSpec) -> int:
    """Traces that curation is expected to keep."""
    difficulty = curation.difficulty
    hard = difficulty.keep_hardest or (HARD_SHARE if difficulty.max_pass_rate is not None else 1.0)
    if curation.correctness != "right":
        passed = 1.0 if curation.correctness == "any" else 1 - VERIFIED_SHARE
        per_question = min(curation.diversity.trajectories, draws_per_question(sampling) * passed)
        return max(1, round(questions * hard * per_question))
    if sampling.samples == 1:
        return max(1, round(questions * VERIFIED_SHARE * hard))
    verified = draws_per_question(sampling) * VERIFIED_SHARE / SOLVED_SHARE
    return max(1, round(questions * SOLVED_SHARE * hard * min(curation.diversity.trajectories, max(1.0, verified))))


def training_tokens(
    traces: int, mean_response: float, training: TrainingSpec, mean_prompt: float = PROMPT_TOKENS
) -> Tokens:
    """Tokens of all epochs, the steps they take, and what `measureCorpus` reads besides: the corpus once, and twice the
    beginnings of some traces."""
    length = min(mean_response + mean_prompt, training.context_length)
    per_epoch = -(-traces // training.global_batch_size)
    steps = min(per_epoch * training.epochs, training.max_steps or per_epoch * training.epochs)
    beginnings = min(traces, PROMPTS) * min(TOKENS, length)
    return Tokens(
        training=round(traces * length * steps / per_epoch),
        measured=round(traces * length + 2 * beginnings) if training.measure_corpus else 0,
        steps=steps,
        mean_response=mean_response,
    )


def with_steps(trained: Tokens, steps: int) -> Tokens:
    """The same corpus trained on for so many steps."""
    return replace(trained, training=round(trained.training * steps / trained.steps), steps=steps)


def kept_traces(metrics: Mapping[str, float | int | str | None]) -> int | None:
    """Traces in the corpus according to the metrics of a finished curate stage."""
    kept = metrics.get("kept")
    return int(kept) if isinstance(kept, int | float) else None
