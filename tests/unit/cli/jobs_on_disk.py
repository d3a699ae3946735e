"""A job in a root, brought to any point of its course."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kubedistill_api.stage import StageResult
from kubedistill_api.status import Artifact, JobStatus, StageStatus
from kubedistill_runtime.data.traces import TRACES, TraceStore
from kubedistill_runtime.local.workspace import Workspace
from kubedistill_runtime.stages.prepare import QUESTIONS

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGESTS = {"prepare": "a" * 64, "sample": "b" * 64, "curate": "c" * 64, "report": "d" * 64}


def trace(question: str, sample: int, correct: bool, **more: Any) -> dict[str, Any]:
    response = f"<think>\nthinking of {question} {sample}\n</think>\n\\boxed{{{sample}}}"
    return {
        "question_id": question,
        "sample_index": sample,
        "domain": "math",
        "prompt_token_ids": [1],
        "response_token_ids": list(range(10 + sample)),
        "prompt_tokens": 1,
        "response_tokens": 10 + sample,
        "response": response,
        "finish_reason": "stop",
        "correct": correct,
        "method": "string",
        "error": None,
        "verify_seconds": 0.0,
        "latency_seconds": 0.1,
        "seed": sample,
        "surplus": False,
        "teacher": "t",
        **more,
    }


ALL_TRACES = [
    trace("q1", 0, True),
    trace("q1", 1, False),
    trace("q1", 2, True, surplus=True),
    trace("q2", 0, False, finish_reason="length", error="truncated: the thinking was never closed"),
    trace("q2", 1, True),
]
FATES = [
    ("q1", 0, True, "kept", "kept", "chosen among 2"),
    ("q1", 1, False, "correctness", "wrong", "the answer is not the gold"),
    ("q1", 2, False, "sampling", "surplus", "enough were verified before it"),
    ("q2", 0, False, "quality", "cut_off", "reached the limit"),
    ("q2", 1, False, "difficulty", "too_easy", "the student solves 90 %"),
]


class JobOnDisk:
    """A job in a root, brought to any point of its course."""

    def __init__(self, root: Path, name: str = "small", namespace: str = "default") -> None:
        self.workspace = Workspace(root / namespace)
        self.job = self.workspace.job("DistillationJob", name)
        self.states: dict[str, str] = dict.fromkeys(DIGESTS, "Waiting")
        self.write_status()

    def folder(self, kind: str) -> Path:
        path = self.workspace.folder / "stages" / f"{kind}-{DIGESTS[kind][:16]}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def write_status(self) -> None:
        stages = [
            StageStatus.model_validate({"name": kind, "kind": kind, "digest": digest, "state": self.states[kind]})
            for kind, digest in DIGESTS.items()
        ]
        self.job.write_status(JobStatus(phase="Running", stages=stages))

    def finish(self, kind: str, **outputs: str) -> None:
        result = StageResult.model_validate(
            {
                "stage": kind,
                "kind": kind,
                "digest": DIGESTS[kind],
                "outputs": {name: Artifact(uri=uri, digest="x") for name, uri in outputs.items()},
                "started": NOW,
                "finished": NOW,
            }
        )
        (self.folder(kind) / "result.json").write_text(result.model_dump_json(by_alias=True))
        self.states[kind] = "Succeeded"
        self.write_status()

    def prepare(self) -> None:
        tests = json.dumps({"inputs": ["1\n"], "outputs": ["2\n"], "fn_name": None})
        rows = [
            {"question_id": "q1", "domain": "math", "question": "What is one?", "gold": "1"},
            {"question_id": "q2", "domain": "code", "question": "Double it [bold]now[/bold].", "tests": tests},
        ]
        table = pa.Table.from_pylist([{"source": 0, "row": 0, "prompt": "p", **row} for row in rows], schema=QUESTIONS)
        pq.write_table(table, self.folder("prepare") / "questions.parquet")
        self.finish("prepare", questions="questions.parquet")

    def begin_sampling(self, count: int = len(ALL_TRACES)) -> None:
        with TraceStore(self.folder("sample") / "traces", TRACES) as store:
            for record in ALL_TRACES[:count]:
                store.add(record)
        self.states["sample"] = "Running"
        self.write_status()

    def sample(self) -> None:
        pq.write_table(pa.Table.from_pylist(ALL_TRACES, schema=TRACES), self.folder("sample") / "traces.parquet")
        self.finish("sample", traces="traces.parquet")

    def curate(self) -> None:
        names = ["question_id", "sample_index", "kept", "stage", "reason", "text"]
        fates = [dict(zip(names, row, strict=True)) for row in FATES]
        pq.write_table(pa.Table.from_pylist(fates), self.folder("curate") / "trace_fates.parquet")
        questions = [
            {"question_id": "q1", "pass_rate": 0.25, "kept": True, "stage": "kept", "reason": "kept", "text": ""},
            {
                "question_id": "q2",
                "pass_rate": 0.9,
                "kept": False,
                "stage": "difficulty",
                "reason": "too_easy",
                "text": "",
            },
        ]
        pq.write_table(pa.Table.from_pylist(questions), self.folder("curate") / "question_fates.parquet")
        self.finish("curate", trace_fates="trace_fates.parquet", question_fates="question_fates.parquet")
