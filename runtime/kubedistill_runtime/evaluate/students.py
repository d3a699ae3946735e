"""Students out of the scores.json files of evaluate stages."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.evaluate.paired import Student


def read_student(name: str, scores: Sequence[Path]) -> tuple[Student, list[Any]]:
    """What one corpus taught, with one scores.json per training seed, and the ids of the questions by benchmark.

    Raises BadInput where the files are not about the same questions.
    """
    contents = [benchmarks(path) for path in scores]
    asked = [[(b["benchmark"], b["samples"], [q["questionId"] for q in b["perQuestion"]]) for b in c] for c in contents]
    if any(questions != asked[0] for questions in asked):
        raise BadInput(f"the students of {name} were not asked the same questions")
    rates = tuple(
        np.array([[q["student"] for q in content[at]["perQuestion"]] for content in contents], dtype=np.float64)
        for at in range(len(contents[0]))
    )
    return Student(name, rates, tuple(content["samples"] for content in contents[0])), asked[0]


def response_tokens(scores: Sequence[Path]) -> float:
    """Mean length of the students' answers, over seeds and, each counting alike, benchmarks."""
    return float(np.mean([[b["student"]["meanTokens"] for b in benchmarks(path)] for path in scores]))


def base_score(scores: Path) -> float | None:
    """Score of the student before training; None where it was not asked."""
    rates = [[q["base"] for q in b["perQuestion"]] for b in benchmarks(scores)]
    if any(rate is None for questions in rates for rate in questions):
        return None
    return float(np.mean([np.mean(questions) for questions in rates]))


def benchmarks(scores: Path) -> list[dict[str, Any]]:
    """The benchmarks of a scores.json, question by question."""
    found: list[dict[str, Any]] = json.loads(scores.read_bytes())["details"]["benchmarks"]
    return found
