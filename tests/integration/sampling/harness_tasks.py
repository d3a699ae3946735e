"""Tasks for the lm-evaluation-harness about the embedded sums: one that generates text, one that scores options."""

import json
from pathlib import Path
from typing import Any

import yaml

from kubedistill_api.data import Benchmark
from kubedistill_runtime.tiny import embedded_path

FIRST = {"function": "take_first"}
BOXED = {"name": "boxed", "filter": [{"function": "regex", "regex_pattern": r"boxed\{(-?\d+)\}"}, FIRST]}
WHOLE = {"name": "whole", "filter": [FIRST]}


def sums(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Some of the embedded benchmark's questions; each with the right sum and one that is off by ten as options."""
    lines = embedded_path("questions/benchmark.jsonl").read_text().splitlines()[start : start + count]
    rows = [json.loads(line) for line in lines]
    return [
        {
            "question": row["question"],
            "answer": str(row["answer"]),
            "options": [str(int(row["answer"]) + 10), str(row["answer"])][:: 1 if number % 2 else -1],
            "right": number % 2,
        }
        for number, row in enumerate(rows)
    ]


def write_tasks(folder: Path, count: int, **changes: Any) -> Path:
    """A folder with the tasks `tiny_sums` and `tiny_options`, and the group `tiny` of both.

    Their test split has `count` questions, and 3 others are examples. `changes` are fields of both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"test": folder / "test.jsonl", "train": folder / "train.jsonl"}
    for path, rows in zip(files.values(), (sums(count), sums(3, 90)), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {split: str(path) for split, path in files.items()},
            "cache_dir": str(folder / "cache"),
        },
        "test_split": "test",
        "fewshot_split": "train",
        **changes,
    }
    generating = {
        "task": "tiny_sums",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"do_sample": False, "until": ["\n\n"], "max_gen_toks": 96},
        "filter_list": [BOXED, WHOLE],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    scoring = {
        "task": "tiny_options",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}\nAnswer:",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "{{right}}",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
    }
    for task in (generating, scoring):
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump({**common, **task}))
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"group": "tiny", "task": ["tiny_sums", "tiny_options"]}))
    return folder


def entry(folder: Path, task: str, name: str = "sums", **harness: Any) -> Benchmark:
    """A benchmark that is one of these tasks."""
    fields = {"name": name, "uri": str(folder), "harness": {"task": task, **harness}}
    return Benchmark.model_validate(fields)
