"""How many traces and questions got through each stage."""

from collections.abc import Sequence

from kubedistill_runtime.curate.types import Counts, Funnel, Stage, TraceFate

_PASSED = {
    "sampled": (Stage.QUALITY, Stage.CORRECTNESS, Stage.DIFFICULTY, Stage.DIVERSITY, Stage.KEPT),
    "well_formed": (Stage.CORRECTNESS, Stage.DIFFICULTY, Stage.DIVERSITY, Stage.KEPT),
    "correct": (Stage.DIFFICULTY, Stage.DIVERSITY, Stage.KEPT),
    "hard": (Stage.DIVERSITY, Stage.KEPT),
    "kept": (Stage.KEPT,),
}
"""Where a trace that passed a point may have ended."""


def count(questions: int, traces: Sequence[TraceFate]) -> Funnel:
    """The funnel of so many questions and the fates of all their traces."""
    through = {point: [fate for fate in traces if fate.stage in ends] for point, ends in _PASSED.items()}
    return Funnel(
        questions=questions,
        surplus=sum(fate.stage is Stage.SAMPLING for fate in traces),
        traces=Counts(**{point: len(fates) for point, fates in through.items()}),
        of_questions=Counts(**{point: len({fate.question_id for fate in fates}) for point, fates in through.items()}),
    )
