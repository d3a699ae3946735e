"""A sample of traces and answers to read: whole questions, chosen the same way every time, of bounded size."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from kubedistill_runtime.report.contents import Excerpt, Excerpts
from kubedistill_runtime.report.tables import rows

MAX_QUESTIONS = 60
MAX_RESPONSES = 16
"""Of one question."""
MAX_CHARACTERS = 12_000
"""Of one response; the middle of a longer one is left out, since its start and its answer tell the most."""
BUDGET_CHARACTERS = 1_500_000
"""Of all traces together, and of all answers: the page must open at once."""
TRACE_COLUMNS = [
    "question_id",
    "sample_index",
    "response",
    "response_tokens",
    "finish_reason",
    "correct",
    "method",
    "error",
]
PER_REASON = 2
"""Questions shown for every reason that a trace was dropped for, so that rare reasons can be read too."""


def shortened(text: str, limit: int = MAX_CHARACTERS) -> tuple[str, int]:
    """The text, or its first two thirds and its last third within the limit; and how many characters are left out."""
    if len(text) <= limit:
        return text, 0
    head, tail = limit * 2 // 3, limit - limit * 2 // 3
    cut = len(text) - head - tail
    return f"{text[:head]}\n\n[... {cut:,} characters left out ...]\n\n{text[-tail:]}", cut


def choose(reasons: Mapping[str, Sequence[str]], limit: int = MAX_QUESTIONS) -> list[str]:
    """Ids of at most `limit` questions, given the reasons of the responses of each.

    First some for every reason, then others, in an order that is arbitrary but always the same.
    """
    ordered = sorted(reasons, key=lambda question: hashlib.sha256(question.encode()).hexdigest())
    by_reason: dict[str, list[str]] = defaultdict(list)
    for question in ordered:
        for reason in sorted(set(reasons[question])):
            by_reason[reason].append(question)
    rare_first = sorted(by_reason, key=lambda reason: (len(by_reason[reason]), reason))
    chosen = dict.fromkeys(question for reason in rare_first for question in by_reason[reason][:PER_REASON])
    chosen |= dict.fromkeys(ordered)
    return list(chosen)[:limit]


@dataclass(frozen=True)
class TraceFiles:
    """Where one teacher's traces and their fates lie."""

    traces: Path
    trace_fates: Path | None
    question_fates: Path | None


def traces(teachers: Mapping[str, TraceFiles], questions: Path) -> Excerpts:
    """A sample of questions with the traces of all teachers (by name; `""` where there is one) and their fates."""
    reasons: dict[str, list[str]] = defaultdict(list)
    trace_fates: dict[tuple[str, str, int], dict[str, Any]] = {}
    question_fates: dict[tuple[str, str], dict[str, Any]] = {}
    total = 0
    for name, files in teachers.items():
        if files.trace_fates:
            for row in rows(files.trace_fates, ["question_id", "sample_index", "kept", "stage", "reason", "text"]):
                trace_fates[name, row["question_id"], row["sample_index"]] = row
        if files.question_fates:
            for row in rows(files.question_fates, ["question_id", "pass_rate", "text"]):
                question_fates[name, row["question_id"]] = row
        for row in rows(files.traces, ["question_id", "sample_index", "correct"]):
            fate = trace_fates.get((name, row["question_id"], row["sample_index"]))
            reasons[row["question_id"]].append(fate["reason"] if fate else str(row["correct"]))
            total += 1
    chosen = choose(reasons, MAX_QUESTIONS)
    texts = _texts(questions, chosen, None)
    drawn = {
        name: _grouped(_chosen(files.traces, TRACE_COLUMNS, chosen), ("question_id",))
        for name, files in teachers.items()
    }
    each = _share(MAX_RESPONSES, len(teachers))
    entries = []
    for question in chosen:
        facts = [question_fates[name, question] for name in teachers if (name, question) in question_fates]
        responses = [
            _response(row, row["finish_reason"] == "length", trace_fates.get((name, question, row["sample_index"])))
            | {"who": name}
            for name in teachers
            for row in sorted(drawn[name][question,], key=lambda row: row["sample_index"])[:each]
        ]
        entries.append(
            Excerpt(
                group="",
                question_id=question,
                question=texts.get(question, ("", ""))[0],
                gold=texts.get(question, ("", ""))[1],
                facts={"passRate": facts[0]["pass_rate"] if facts else None},
                # What became of a question differs between teachers; with several, their traces tell.
                note=facts[0]["text"] if facts and len(teachers) == 1 else "",
                responses=tuple(responses),
            )
        )
    return Excerpts(_within_budget(entries, BUDGET_CHARACTERS), len(reasons), total)


def answers(
    benchmark: str,
    questions: Path,
    results: Mapping[str, Path],
    per_question: Sequence[tuple[str, float | None, float]],
    groups: int = 1,
) -> Excerpts:
    """A sample of the answers to one of so many `groups` of questions; `results` by `base` and `student`."""
    change = {
        question: "new" if before is None else "better" if after > before else "worse" if after < before else "same"
        for question, before, after in per_question
    }
    chosen = choose({question: [kind] for question, kind in change.items()}, _share(MAX_QUESTIONS, groups))
    texts = _texts(questions, chosen, benchmark)
    columns = ["question_id", "sample_index", "response", "response_tokens", "truncated", "correct", "method", "error"]
    drawn = _grouped(
        (
            row | {"who": who}
            for who, path in results.items()
            for row in _chosen(path, columns, chosen, benchmark=benchmark)
        ),
        ("question_id", "who"),
    )
    shares = {question: (before, after) for question, before, after in per_question}
    entries = [
        Excerpt(
            group=benchmark,
            question_id=question,
            question=texts.get(question, ("", ""))[0],
            gold=texts.get(question, ("", ""))[1],
            facts={"base": shares[question][0], "student": shares[question][1]},
            note=change[question],
            responses=tuple(
                _response(row, bool(row["truncated"]), None) | {"who": who}
                for who in results
                # Two of each side show the difference; the rest would only fill the page.
                for row in sorted(drawn[question, who], key=lambda row: row["sample_index"])[:2]
            ),
        )
        for question in chosen
    ]
    samples = sum(pq.read_metadata(path).num_rows for path in results.values())
    return Excerpts(_within_budget(entries, _share(BUDGET_CHARACTERS, groups)), len(per_question), samples)


def _chosen(
    path: Path, columns: list[str], questions: list[str], *, benchmark: str | None = None
) -> list[dict[str, Any]]:
    """Rows of these questions; the file is scanned in parts."""
    where = pc.field("question_id").isin(questions)
    if benchmark is not None:
        where &= pc.field("benchmark") == benchmark
    return ds.dataset(path).to_table(columns=columns, filter=where).to_pylist()


def _grouped(found: Iterable[dict[str, Any]], by: tuple[str, ...]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        groups[tuple(row[name] for name in by)].append(row)
    return groups


def _texts(path: Path, questions: list[str], benchmark: str | None) -> dict[str, tuple[str, str]]:
    """Question and gold by id."""
    wanted = set(questions)
    found = rows(path, ["question_id", "question", "gold", "benchmark"])
    return {
        row["question_id"]: (shortened(row["question"] or "", 4000)[0], row["gold"] or "")
        for row in found
        if row["question_id"] in wanted and (benchmark is None or row["benchmark"] == benchmark)
    }


def _response(row: dict[str, Any], truncated: bool, fate: dict[str, Any] | None) -> dict[str, Any]:
    text, cut = shortened(row["response"] or "")
    return {
        "index": row["sample_index"],
        "correct": bool(row["correct"]),
        "error": row["error"] or "",
        "method": row["method"] or "",
        "tokens": row["response_tokens"],
        "truncated": truncated,
        "kept": bool(fate["kept"]) if fate else None,
        "stage": fate["stage"] if fate else "",
        "reason": fate["reason"] if fate else "",
        "note": fate["text"] if fate else "",
        "text": text,
        "cut": cut,
    }


def _share(whole: int, groups: int) -> int:
    return max(1, whole // groups)


def _within_budget(entries: list[Excerpt], budget: int) -> tuple[Excerpt, ...]:
    """As many of the first questions as fit, at least one."""
    used = 0
    fitting: list[Excerpt] = []
    for entry in entries:
        used += sum(len(response["text"]) for response in entry.responses)
        if fitting and used > budget:
            break
        fitting.append(entry)
    return tuple(fitting)
