"""The decide stage: compares the students of a probe's round, question by question."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from kubedistill_api.stage import DecideParams, StageResult
from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.evaluate.paired import Student
from kubedistill_runtime.evaluate.rounds import decide
from kubedistill_runtime.stages.context import StageContext

DECISION_FILE = "decision.json"


def run(context: StageContext, params: DecideParams) -> StageResult:
    """Leaves decision.json. Raises BadInput where students were not asked the same questions."""
    students, asked = [], None
    for candidate, roles in params.students.items():
        there = [role for role in roles if role in context.spec.inputs]
        if not there:
            continue  # it left in an earlier round
        student, questions = _student(context, candidate, there)
        if asked is not None and questions != asked:
            raise BadInput(f"the student of {candidate} was asked other questions than that of {students[0].candidate}")
        asked = questions
        students.append(student)
    decision = decide(
        students,
        candidates=len(params.students),
        number=params.round,
        rounds=params.rounds,
        growth=params.growth,
        confidence=params.confidence,
    )
    print(decision.reason, flush=True)
    path = context.folder / DECISION_FILE
    write_atomically(path, decision.model_dump_json(by_alias=True, indent=1).encode())
    return context.finish({"decision": path}, metrics={"leader": decision.leader}, decision=decision)


def _student(context: StageContext, candidate: str, roles: Sequence[str]) -> tuple[Student, list[Any]]:
    """The student's rates, and the ids of its questions by benchmark."""
    contents = [json.loads(context.artifact(role, "scores").read_bytes())["details"]["benchmarks"] for role in roles]
    asked = [[(b["benchmark"], b["samples"], [q["questionId"] for q in b["perQuestion"]]) for b in c] for c in contents]
    if any(questions != asked[0] for questions in asked):
        raise BadInput(f"the students of {candidate} were not asked the same questions")
    rates = tuple(
        np.array([[q["student"] for q in content[at]["perQuestion"]] for content in contents], dtype=np.float64)
        for at in range(len(contents[0]))
    )
    return Student(candidate, rates, contents[0][0]["samples"]), asked[0]
