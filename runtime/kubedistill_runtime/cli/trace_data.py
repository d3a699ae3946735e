"""The traces of a job as far as it is: while it samples, after it sampled, after it curated.

Only keys and verdicts are held; texts are read for the question that is looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from kubedistill_api.status import JobStatus, StageStatus
from kubedistill_runtime.cli.jobs import artifact, stage_folder
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.local.workspace import JobFolder

INDEX = ["question_id", "sample_index", "correct"]
TEXT = [
    "question_id",
    "sample_index",
    "response",
    "response_tokens",
    "finish_reason",
    "correct",
    "method",
    "error",
    "surplus",
]

Key = tuple[str, int]


@dataclass(frozen=True)
class Fate:
    """What curation did with a trace or a question."""

    kept: bool
    stage: str
    reason: str
    text: str


@dataclass(frozen=True)
class Filter:
    """Which traces are looked at."""

    question: str | None = None
    """An id, its beginning, or `#3` for the third question."""
    fate: Literal["any", "kept", "dropped"] = "any"
    reason: str | None = None
    """Dropped for a reason or at a stage that contains this."""
    correct: bool | None = None


@dataclass(frozen=True)
class Trace:
    """One response with everything that is known of it."""

    sample: int
    response: str
    tokens: int | None
    finish_reason: str
    correct: bool
    method: str
    error: str
    surplus: bool
    fate: Fate | None


@dataclass
class Question:
    """One question with the keys of its traces that pass the filter."""

    id: str
    number: int
    """From 1, in the order of the questions."""
    domain: str
    text: str
    gold: str | None
    tests: str | None
    fate: Fate | None
    pass_rate: float | None
    samples: list[int] = field(default_factory=list)
    drawn: int = 0
    correct: int = 0


class Traces:
    """Read access to the traces of one sample stage of a job."""

    def __init__(self, job: JobFolder, status: JobStatus, candidate: str | None = None) -> None:
        """`candidate` chooses a teacher of a probe. Raises BadInput where it is needed or wrong, TryAgain where there
        is nothing to read yet."""
        self.job = job
        suffix = _suffix(job, status, candidate)
        stages = {stage.name: stage for stage in status.stages}
        self._sample = stages[f"sample{suffix}"]
        self._curate = stages.get(f"curate{suffix}")
        prepared = artifact(job, stages["prepare"], "questions")
        if prepared is None:
            raise TryAgain(f"{job.name}: the questions are not prepared yet ({stages['prepare'].state.lower()})")
        self._questions = prepared
        self.trace_fates: dict[Key, Fate] = {}
        self._question_fates: dict[str, tuple[Fate, float | None]] = {}
        self.curated = self._read_fates()

    def questions(self, wanted: Filter) -> list[Question]:
        """The questions that have a trace that passes, in their order. Raises BadInput for an unknown question."""
        found = self._all_questions()
        if wanted.question is not None:
            found = _chosen(found, wanted.question)
        for key, correct in sorted(self._index().items()):
            question = found.get(key[0])
            if question is None:
                continue
            question.drawn += 1
            question.correct += correct
            if wanted.correct in (None, correct) and self._passes(key, wanted):
                question.samples.append(key[1])
        return [question for question in found.values() if question.samples]

    def traces(self, question: Question) -> Iterator[Trace]:
        """The question's traces that pass the filter, in the order of their numbers."""
        rows = self._read(TEXT, ds.field("question_id") == question.id)
        by_sample = {row["sample_index"]: row for row in rows}
        for sample in question.samples:
            if sample in by_sample:
                yield _trace(by_sample[sample], self.trace_fates.get((question.id, sample)))

    def _all_questions(self) -> dict[str, Question]:
        columns = ["question_id", "domain", "question", "gold", "tests"]
        rows = pq.read_table(self._questions, columns=columns).to_pylist()
        found: dict[str, Question] = {}
        for number, row in enumerate(rows, start=1):
            fate, rate = self._question_fates.get(row["question_id"], (None, None))
            found[row["question_id"]] = Question(
                id=row["question_id"],
                number=number,
                domain=row["domain"],
                text=row["question"],
                gold=row["gold"],
                tests=row["tests"],
                fate=fate,
                pass_rate=rate,
            )
        return found

    def _index(self) -> dict[Key, bool]:
        return {(row["question_id"], row["sample_index"]): bool(row["correct"]) for row in self._read(INDEX)}

    def _passes(self, key: Key, wanted: Filter) -> bool:
        if wanted.fate == "any":
            return True
        fate = self.trace_fates.get(key)
        if fate is None or fate.kept != (wanted.fate == "kept"):
            return False
        return wanted.reason is None or wanted.reason in fate.reason or wanted.reason == fate.stage

    def _read(self, columns: list[str], condition: ds.Expression | None = None) -> list[dict[str, Any]]:
        final = artifact(self.job, self._sample, "traces")
        if final:
            return list(ds.dataset(final, format="parquet").to_table(columns=columns, filter=condition).to_pylist())
        folder = stage_folder(self.job, self._sample)
        for _ in range(3):  # parts are merged, and so removed, under a reader's eyes
            parts = sorted(str(path) for path in folder.rglob("*.arrow") if not path.name.startswith("."))
            if not parts:
                break
            try:
                table = ds.dataset(parts, format="ipc").to_table(columns=columns, filter=condition)
            except (FileNotFoundError, pa.ArrowInvalid):
                continue
            return list(table.to_pylist())
        raise TryAgain(f"{self.job.name}: no trace is there yet; {self._sample.name} is {self._sample.state.lower()}")

    def _read_fates(self) -> bool:
        traces = artifact(self.job, self._curate, "trace_fates") if self._curate else None
        questions = artifact(self.job, self._curate, "question_fates") if self._curate else None
        for row in pq.read_table(traces).to_pylist() if traces else []:
            self.trace_fates[row["question_id"], row["sample_index"]] = _fate(row)
        for row in pq.read_table(questions).to_pylist() if questions else []:
            self._question_fates[row["question_id"]] = (_fate(row), row["pass_rate"])
        return traces is not None


def reasons(traces: Traces) -> dict[str, int]:
    """Why traces were dropped, the commonest first."""
    counts: dict[str, int] = {}
    for fate in traces.trace_fates.values():
        if not fate.kept:
            counts[fate.reason] = counts.get(fate.reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _suffix(job: JobFolder, status: JobStatus, candidate: str | None) -> str:
    names = [stage.name.removeprefix("sample-") for stage in _sampling(status) if stage.name != "sample"]
    if not _sampling(status):
        raise TryAgain(f"{job.name} has no stage that samples yet; its status says: {status.phase}")
    if not names:
        return ""
    if candidate in names:
        return f"-{candidate}"
    raise BadInput(f"{job.name} is a probe: give --candidate, one of {', '.join(names)}")


def _sampling(status: JobStatus) -> list[StageStatus]:
    return [stage for stage in status.stages if stage.kind == "sample"]


def _chosen(questions: dict[str, Question], wanted: str) -> dict[str, Question]:
    if wanted.startswith("#") and wanted[1:].isdigit():
        found = {key: q for key, q in questions.items() if q.number == int(wanted[1:])}
    else:
        found = {key: q for key, q in questions.items() if key.startswith(wanted)}
    if not found:
        raise BadInput(f"--question {wanted}: no such question; give an id, its beginning, or #1 to #{len(questions)}")
    return found


def _fate(row: dict[str, Any]) -> Fate:
    return Fate(bool(row["kept"]), str(row["stage"] or ""), str(row["reason"] or ""), str(row["text"] or ""))


def _trace(row: dict[str, Any], fate: Fate | None) -> Trace:
    return Trace(
        sample=row["sample_index"],
        response=row["response"] or "",
        tokens=row["response_tokens"],
        finish_reason=row["finish_reason"],
        correct=bool(row["correct"]),
        method=row["method"] or "",
        error=row["error"] or "",
        surplus=bool(row["surplus"]),
        fate=fate,
    )
