"""Judging a file of rows."""

import json
import resource

import pytest

from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.verify import rows as rows_module
from kubedistill_runtime.verify.pool import VerifierPool
from kubedistill_runtime.verify.rows import verify_rows
from kubedistill_runtime.verify.types import VerifierUnavailable

GOOD = {"id": "a", "domain": "math", "response": r"<think>x</think>\boxed{2}", "gold": "2"}
CODE = {
    "id": "c",
    "domain": "code",
    "response": "```python\nprint(input())\n```",
    "tests": {"inputs": ["1"], "outputs": ["1"]},
}


def judged(tmp_path, lines, **options):
    source, output = tmp_path / "rows.jsonl", tmp_path / "verdicts.jsonl"
    source.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    summary = verify_rows(source, output, VerificationSpec(), 1, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "verdicts.jsonl"]
    return summary, [json.loads(line) for line in output.read_text().splitlines()]


def test_verdicts_come_in_the_order_of_the_rows(tmp_path):
    algebra = GOOD | {"id": "slow", "response": r"\boxed{\frac{1}{\sqrt2}}", "gold": r"\frac{\sqrt2}{2}"}
    rows = [CODE, algebra, GOOD, GOOD | {"id": 4, "gold": "3"}]
    seen = []

    summary, verdicts = judged(tmp_path, rows, progress=lambda now: seen.append((now.rows, now.correct)))

    assert [verdict["id"] for verdict in verdicts] == ["c", "slow", "a", 4]
    assert [verdict["correct"] for verdict in verdicts] == [True, True, True, False]
    assert [verdict["method"] for verdict in verdicts] == ["tests", "math-verify", "string", "rational"]
    assert set(verdicts[0]) == {"id", "correct", "method", "seconds", "error"}
    assert (summary.rows, summary.correct, summary.errors) == (4, 3, 0)
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 3)]


BAD = [
    (b"{not json", None, "line 1: not JSON"),
    (b"\xff\xfe\x00", None, "line 1: not JSON"),
    (b"[" * 100_000, None, "line 1: not JSON"),
    (b"[1, 2]", None, "line 1: a row is an object"),
    ({**GOOD, "id": None}, None, "line 1: id is missing"),
    ({**GOOD, "id": True}, None, "line 1: id is a bool"),
    ({**GOOD, "domain": "poetry"}, "a", "domain is 'poetry'"),
    ({**GOOD, "domain": ["math"]}, "a", "domain is ['math']"),
    ({**GOOD, "response": 5}, "a", "response is a int"),
    ({**GOOD, "gold": 2}, "a", "gold is a int"),
    ({**GOOD, "gold": ""}, "a", "gold is missing"),
    ({**CODE, "tests": None}, "c", "tests is a NoneType"),
    ({**CODE, "tests": {"inputs": ["1"]}}, "c", "tests.outputs: Field required"),
    ({**CODE, "tests": {"inputs": ["1"], "outputs": []}}, "c", "tests.outputs"),
    ({**CODE, "tests": {"inputs": [1], "outputs": ["1"]}}, "c", "inputs[0] is a int"),
    ({**CODE, "tests": {"inputs": ["1"], "outputs": ["1", "2"]}}, "c", "give one output per input"),
    ({**CODE, "tests": {"inputs": ["1"], "outputs": ["1"], "fn_name": "f"}}, "c", "list of arguments"),
    ({**CODE, "response": "```python\nprint('\ud800')\n```"}, "c", "test 1 of 1"),
]


def test_a_bad_row_gets_an_error_and_stops_no_other(tmp_path):
    lines = [part for bad, _, _ in BAD for part in (bad, GOOD)]

    summary, verdicts = judged(tmp_path, lines)

    assert all(verdict["correct"] for verdict in verdicts[1::2])
    for number, ((_, key, reason), verdict) in enumerate(zip(BAD, verdicts[::2], strict=True)):
        assert (verdict["id"], verdict["correct"]) == (key, False)
        assert reason.replace("line 1", f"line {2 * number + 1}") in verdict["error"]
    assert summary.errors == len(BAD)


def test_an_absurdly_long_row_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "MAX_ROW", 1000)

    _, verdicts = judged(tmp_path, [GOOD, b"x" * 5000, GOOD, b"y" * 2000])

    assert [verdict["correct"] for verdict in verdicts] == [True, False, True, False]
    assert verdicts[1]["error"] == "line 2: longer than 1000 bytes"
    assert verdicts[3]["error"] == "line 4: longer than 1000 bytes"


def test_blank_lines_are_no_rows(tmp_path):
    summary, verdicts = judged(tmp_path, [GOOD, b"", b"  ", GOOD])

    assert summary.rows == len(verdicts) == 2


def test_memory_does_not_grow_with_the_rows(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = GOOD | {"response": "x" * 20_000 + GOOD["response"]}

    summary, _ = judged(tmp_path, [row] * 4000)

    assert summary.correct == 4000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024 + 2 * 4000 * 20


def test_a_failure_leaves_the_old_output_alone(tmp_path):
    output = tmp_path / "verdicts.jsonl"
    output.write_text("old\n")

    def stop(_):
        raise KeyboardInterrupt

    (tmp_path / "rows.jsonl").write_text(json.dumps(GOOD) + "\n")
    with pytest.raises(KeyboardInterrupt):
        verify_rows(tmp_path / "rows.jsonl", output, VerificationSpec(), 1, progress=stop)

    assert output.read_text() == "old\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_id_that_utf8_cannot_hold_stops_nobody(tmp_path):
    _, verdicts = judged(tmp_path, [GOOD | {"id": "\ud800"}, GOOD | {"id": "ö"}, GOOD | {"id": 1.5}])

    assert [verdict["id"] for verdict in verdicts] == ["\ud800", "ö", None]
    assert [verdict["correct"] for verdict in verdicts] == [True, True, False]
    assert "id is a float" in verdicts[2]["error"]


def test_where_no_program_can_be_run_the_mathematics_is_judged_all_the_same(tmp_path, monkeypatch):
    async def no_workers(self, item, started):
        raise VerifierUnavailable("no isolation on this machine")

    monkeypatch.setattr(VerifierPool, "_verify_code", no_workers)
    summary, verdicts = judged(tmp_path, [CODE, GOOD])

    assert [verdict["correct"] for verdict in verdicts] == [False, True]
    assert verdicts[0]["error"] == "no isolation on this machine"
    assert summary.errors == 1
