"""The decide stage: compares the students of a probe's round, question by question."""

from kubedistill_api.stage import DecideParams, StageResult
from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.evaluate.rounds import decide
from kubedistill_runtime.evaluate.students import read_student
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.evaluate import SCORES

DECISION_FILE = "decision.json"


def run(context: StageContext, params: DecideParams) -> StageResult:
    """Leaves decision.json. Raises BadInput where students were not asked the same questions."""
    students, asked = [], None
    for candidate, roles in params.students.items():
        there = [role for role in roles if role in context.spec.inputs]
        if not there:
            continue  # it left in an earlier round
        student, questions = read_student(candidate, [context.artifact(role, SCORES) for role in there])
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
        draws=params.draws,
    )
    print(decision.reason, flush=True)
    path = context.folder / DECISION_FILE
    write_atomically(path, decision.model_dump_json(by_alias=True, indent=1).encode())
    return context.finish({"decision": path}, metrics={"leader": decision.leader}, decision=decision)
