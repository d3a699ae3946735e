"""From rows of many shapes to questions: columns mapped, golds and tests checked, ids made, doubles removed.

A row that is no good is dropped and counted by reason, before any GPU time is spent on it. A source that is no good
as a whole (a missing column, mostly empty answers) is a BadInput that names the manifest's field.
"""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import chain, islice
from typing import Any, Literal

from kubedistill_api.data import Benchmark, FieldMap, QuestionSource, Window
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data import livecodebench
from kubedistill_runtime.data.code_tests import parse_tests
from kubedistill_runtime.data.options import letter_of, lettered, list_of, shuffled
from kubedistill_runtime.data.rows import Row, read_rows
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.verify.choice import check_letter
from kubedistill_runtime.verify.math import MAX_WORDS, check_gold, compare, words_in_a_row

Reason = Literal[
    "no_id",
    "empty_prompt",
    "bad_prompt",
    "empty_gold",
    "bad_gold",
    "bad_tests",
    "prose_gold",
    "bad_date",
    "outside_window",
    "duplicate",
    "contradicting_gold",
    "contaminated",
]
UNUSABLE: frozenset[Reason] = frozenset(
    {"no_id", "empty_prompt", "bad_prompt", "empty_gold", "bad_gold", "bad_tests", "bad_date"}
)
"""Reasons that speak against the source or its field mapping. Golds in prose do not: many sets have some."""

MAX_UNUSABLE = 0.5
"""A source of which more than this share is unusable was mapped wrongly."""
ROWS_FOR_COLUMNS = 100
"""A column that none of the first so many rows has is missing."""
DETAIL_SHOWN = 300


@dataclass(frozen=True)
class Question:
    """One question; the columns of questions.parquet."""

    question_id: str
    source: int
    row: int
    domain: str
    question: str
    prompt: str
    gold: str | None
    tests: str | None


@dataclass(frozen=True)
class Drop:
    """A row that became no question; a line of drops.jsonl."""

    source: int
    row: int
    question_id: str | None
    reason: Reason
    detail: str
    benchmark: str | None = None

    def json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=True)


class _Unusable(Exception):
    """This row cannot be a question."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason: Reason = reason
        self.detail = detail if len(detail) <= DETAIL_SHOWN else detail[: DETAIL_SHOWN - 1] + "…"
        super().__init__(detail)


def load_source(
    source: QuestionSource, index: int, where: str, verification: VerificationSpec
) -> Iterator[Question | Drop]:
    """A Question or a Drop for each row of a source, in its order; doubles are still among them.

    `where` is the source's field in the manifest (`spec.questions[0]`). Raises BadInput when the source cannot be read,
    lacks a column, or is mostly unusable; the last one at its end.
    """
    checked = getattr(verification, source.domain) != "off"
    judged = verification.judge is not None
    window = source.window if isinstance(source, Benchmark) else None
    form = _form(source)
    needed = {name: name for name in livecodebench.COLUMNS} if form else _needed(source.fields, source.domain, checked)
    dates = livecodebench.DATE if form else source.fields.date
    if window and dates:
        needed["date"] = dates
    columns = [name.partition(".")[0] for name in needed.values()]
    rows = read_rows(source, where, list(dict.fromkeys(columns)))
    head = list(islice(rows, ROWS_FOR_COLUMNS))
    _check_columns(head, needed, where, source)
    unusable: list[Drop] = []
    count = 0
    for number, row in enumerate(chain(head, rows)):
        count += 1
        try:
            if window:
                _check_day(row, dates, window)
            yield _question(_read(row) if form else row, source, index, number, checked, judged)
        except _Unusable as problem:
            drop = Drop(index, number, None, problem.reason, problem.detail)
            if drop.reason in UNUSABLE:
                unusable.append(drop)
            yield drop
    if len(unusable) > MAX_UNUSABLE * count:
        _refuse(unusable, count, source, where)


def without_doubles(items: Iterable[Question | Drop], where: list[str]) -> tuple[list[Question], list[Drop]]:
    """Each question once. Where the same question has different golds, none of them can be trusted: all are dropped.

    `where` is the manifest's field of each source. Raises BadInput when one given id names two different questions.
    """
    drops: list[Drop] = []
    groups: dict[tuple[str, str], list[Question]] = {}
    by_id: dict[str, Question] = {}
    for item in items:
        if isinstance(item, Drop):
            drops.append(item)
            continue
        key = (item.domain, normalised(item.question))
        other = by_id.setdefault(item.question_id, item)
        if key != (other.domain, normalised(other.question)):
            raise BadInput(
                f"{where[item.source]}.fields.id: the id {item.question_id!r} of row {item.row} is also the id of "
                f"another question, row {other.row} of {where[other.source]}; give each question its own id, or remove "
                "fields.id to have ids made"
            )
        groups.setdefault(key, []).append(item)
    kept: list[Question] = []
    for first, *others in groups.values():
        contradicting = next((other for other in others if not _same_gold(first, other)), None)
        if contradicting is None:
            kept.append(first)
            drops += [
                _drop(other, "duplicate", f"same as row {first.row} of source {first.source}") for other in others
            ]
        else:
            detail = f"gold {first.gold!r} in row {first.row}, but {contradicting.gold!r} in row {contradicting.row}"
            drops += [_drop(question, "contradicting_gold", detail) for question in (first, *others)]
    return kept, drops


def normalised(text: str) -> str:
    """The text that decides whether two questions are the same: one Unicode form, spacing made equal."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def question_id(domain: str, question: str, answer: str) -> str:
    """16 hex digits of the SHA-256 of domain, question and gold or tests."""
    return hashlib.sha256("\0".join((domain, normalised(question), answer)).encode()).hexdigest()[:16]


def field(row: Row, name: str) -> Any:
    """The value of a column, or of a part of it by a dotted name. Raises KeyError where there is none."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, str):  # nested JSON is often kept as text
            try:
                value = json.loads(value)
            except ValueError:
                raise KeyError(name) from None
        if not isinstance(value, dict) or part not in value:
            raise KeyError(name)
        value = value[part]
    return value


def _check_day(row: Row, column: str | None, window: Window) -> None:
    assert column is not None
    value = _optional(row, column)
    try:
        day = value.date() if isinstance(value, datetime) else value
        day = day if isinstance(day, date) else date.fromisoformat(str(value)[: len("2025-02-01")])
    except ValueError:
        raise _Unusable("bad_date", f"{column} is {value!r}, not a day as 2025-02-01") from None
    if day not in window:
        raise _Unusable("outside_window", f"{column} is {day}")


def _read(row: Row) -> Row:
    try:
        return livecodebench.question_row(row)
    except ValueError as error:
        raise _Unusable("bad_tests", str(error)) from None


def _needed(fields: FieldMap, domain: str, checked: bool) -> dict[str, str]:
    """Which columns must be there, by their field in the manifest."""
    needed = {"prompt": fields.prompt}
    if checked:
        needed |= {"tests": fields.tests} if domain == "code" else {"answer": fields.answer}
    if domain == "choice":
        needed |= {f"options[{index}]": name for index, name in enumerate(fields.options)}
    return needed | ({"id": fields.id} if fields.id else {})


def _form(source: QuestionSource) -> str | None:
    return source.format if isinstance(source, Benchmark) else None


def _check_columns(rows: list[Row], needed: dict[str, str], where: str, source: QuestionSource) -> None:
    for name, column in needed.items():
        if not any(_has(row, column) for row in rows):
            there = dict.fromkeys(chain.from_iterable(rows))
            if form := _form(source):
                raise BadInput(f"{where}.format: rows of {form} have {column}; these have {', '.join(map(str, there))}")
            raise BadInput(
                f"{where}.fields.{name}: there is no column {column}; set it to one of: {', '.join(map(str, there))}"
            )


def _has(row: Row, column: str) -> bool:
    try:
        field(row, column)
    except KeyError:
        return False
    return True


def _question(row: Row, source: QuestionSource, index: int, number: int, checked: bool, judged: bool) -> Question:
    question = _prompt(row, source.fields.prompt)
    gold = tests = None
    if source.domain == "code":
        tests = _tests(row, source.fields.tests, checked)
    elif source.domain == "choice" and source.fields.options:
        question, gold = _with_options(question, row, source.fields)
    else:
        gold = _gold(row, source.fields, checked, judged, source.domain)
    if source.fields.id:
        identity = _text(_optional(row, source.fields.id))
        if not identity:
            raise _Unusable("no_id", f"{source.fields.id} is empty")
    else:
        identity = question_id(source.domain, question, gold or tests or "")
    return Question(
        question_id=identity,
        source=index,
        row=number,
        domain=source.domain,
        question=question,
        prompt=source.prompt_template.replace("{question}", question),
        gold=gold,
        tests=tests,
    )


def _prompt(row: Row, column: str) -> str:
    value = _optional(row, column)
    if isinstance(value, list):  # chat form: the question is the only message
        users = [turn for turn in value if isinstance(turn, dict) and turn.get("role") == "user"]
        if len(users) != 1 or len(value) != 1:
            raise _Unusable("bad_prompt", f"{column} is a conversation of {len(value)} turns, not one user turn")
        value = users[0].get("content")
    text = _text(value)
    if text is None:
        raise _Unusable("bad_prompt", f"{column} is a {type(value).__name__}, not text")
    if not text:
        raise _Unusable("empty_prompt", f"{column} is empty")
    return text


def _gold(row: Row, fields: FieldMap, checked: bool, judged: bool, domain: str) -> str | None:
    column, mark = fields.answer, fields.answer_after
    value = _optional(row, column)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    gold = _text(value)
    if gold and mark:
        _, found, after = gold.rpartition(mark)
        if checked and not found:
            raise _Unusable("bad_gold", f"{column} has no {mark} (fields.answerAfter)")
        gold = after.strip()
    if not checked:
        return gold or None
    if gold is None:
        raise _Unusable("bad_gold", f"{column} is a {type(value).__name__}, not one answer")
    if not gold:
        raise _Unusable("empty_gold", f"{column} is empty")
    problem = check_letter(gold) if domain == "choice" else check_gold(gold, judged=judged)
    if problem and domain == "math" and words_in_a_row(gold) > MAX_WORDS:
        raise _Unusable("prose_gold", f"{column}: {problem}")
    if problem:
        raise _Unusable("bad_gold", problem)
    return gold


def _with_options(question: str, row: Row, fields: FieldMap) -> tuple[str, str]:
    """The question with its options below it, and the letter of the right one."""
    values = [_optional(row, name) for name in fields.options]
    texts = [_text(value) for value in (values[0] if len(values) == 1 and isinstance(values[0], list) else values)]
    answer = _optional(row, fields.answer)
    try:
        options = list_of(texts)
        if fields.answer in fields.options:
            options = shuffled(options, question)
            return lettered(question, options), letter_of(_text(answer), options)
        return lettered(question, options), letter_of(answer if isinstance(answer, int) else _text(answer), options)
    except ValueError as error:
        raise _Unusable("bad_gold", f"{fields.answer}: {error}") from None


def _tests(row: Row, column: str, checked: bool) -> str | None:
    value = _optional(row, column)
    if value in (None, "", [], {}):
        if checked:
            raise _Unusable("empty_gold", f"{column} is empty")
        return None
    try:
        return parse_tests(value).model_dump_json()
    except ValueError as error:
        if checked:
            raise _Unusable("bad_tests", str(error)) from None
        return None


def _optional(row: Row, column: str) -> Any:
    try:
        return field(row, column)
    except KeyError:
        return None


def _text(value: Any) -> str | None:
    """Text and numbers as text, nothing as empty text; None for what is neither."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    text = str(value).strip()
    # JSON can write half of a surrogate pair, which is no character and cannot be stored.
    return text.encode("utf-8", "replace").decode()


def _same_gold(one: Question, other: Question) -> bool:
    if one.gold is None or other.gold is None or one.gold == other.gold:
        return True
    outcome = compare(one.gold, other.gold)
    return outcome is not None and outcome.equal is True


def _drop(question: Question, reason: Reason, detail: str) -> Drop:
    return Drop(question.source, question.row, question.question_id, reason, detail)


def _refuse(unusable: list[Drop], count: int, source: QuestionSource, where: str) -> None:
    reason, _ = Counter(drop.reason for drop in unusable).most_common(1)[0]
    example = next(drop for drop in unusable if drop.reason == reason)
    told = (
        f"{where}: {len(unusable)} of {count} rows are unusable, mostly {reason}; row {example.row}: {example.detail}."
    )
    if form := _form(source):
        raise BadInput(f"{told} Check {where}.format: is it rows of {form}?")
    if reason == "no_id":
        name = "id"
    elif reason in ("empty_prompt", "bad_prompt"):
        name = "prompt"
    elif reason == "bad_date":
        name = "date"
    else:
        name = "tests" if source.domain == "code" else "answer"
    raise BadInput(
        f"{told} Set {where}.fields.{name} to the column that holds it (now {getattr(source.fields, name)}), or check "
        f"{where}.domain (now {source.domain})"
    )
