"""The compare stage: the variants of a study, each beside what it is compared with."""

from pathlib import Path
from typing import Any

import numpy as np

from kubedistill_api.stage import ArmStages, CompareParams, StageResult
from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.evaluate.students import base_score, read_student, response_tokens
from kubedistill_runtime.evaluate.study import Measured, compare
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.evaluate import SCORES, of_student

COMPARISON_FILE = "comparison.json"


def run(context: StageContext, params: CompareParams) -> StageResult:
    """Leaves comparison.json. Raises BadInput where students were not asked the same questions."""
    measured, asked, base = [], None, None
    for name in params.order:
        stages = params.arms[name]
        scores = [context.artifact(stages.evaluate, of_student(SCORES, train)) for train in stages.trains]
        one, questions = _measured(context, name, stages, scores)
        if asked is not None and questions != asked:
            raise BadInput(f"the students of {name} were asked other questions than those of {params.order[0]}")
        if asked is None:
            base = base_score(scores[0])
        asked = questions
        measured.append(one)
    draws = max(len(stages.corpora) for stages in params.arms.values())
    comparison = compare(measured, confidence=params.confidence, base=base, draws=draws)
    print("\n".join(comparison.sentences()), flush=True)
    path = context.folder / COMPARISON_FILE
    write_atomically(path, comparison.model_dump_json(by_alias=True, indent=1).encode())
    return context.finish({"comparison": path}, metrics={"best": comparison.best.arm}, comparison=comparison)


def _measured(context: StageContext, name: str, stages: ArmStages, scores: list[Path]) -> tuple[Measured, list[Any]]:
    """A variant, and the ids of its questions by benchmark."""
    student, questions = read_student(name, scores)
    measured = Measured(
        student=student,
        against=stages.against,
        settings=stages.settings,
        questions=round(np.mean([_figure(context, curate, "questions_kept") for curate in stages.corpora])),
        traces=round(np.mean([_figure(context, curate, "kept") for curate in stages.corpora])),
        steps=float(np.mean([_figure(context, train, "steps") for train in stages.trains])),
        training_tokens=float(np.mean([context.result_of(train).usage.training_tokens for train in stages.trains])),
        response_tokens=response_tokens(scores),
    )
    return measured, questions


def _figure(context: StageContext, role: str, name: str) -> float:
    value = context.result_of(role).metrics.get(name)
    if not isinstance(value, int | float):
        raise BadInput(f"{role} does not tell {name}; remove its folder and run again")
    return value
