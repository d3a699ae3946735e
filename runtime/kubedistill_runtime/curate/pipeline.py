"""Quality, correctness, difficulty, diversity: from traces to a corpus, with a reason for everything."""

from array import array
from collections.abc import Iterable, Mapping

from kubedistill_api.curation import CurationSpec, DiversitySpec
from kubedistill_runtime.curate.difficulty import too_easy
from kubedistill_runtime.curate.diversity import Units
from kubedistill_runtime.curate.funnel import count
from kubedistill_runtime.curate.matching import Matched, beyond, cut, not_drawn
from kubedistill_runtime.curate.quality import flaw
from kubedistill_runtime.curate.selection import Mapper, Progress, select_all
from kubedistill_runtime.curate.types import (
    Outcome,
    PassRate,
    QuestionFate,
    Reason,
    Selection,
    Stage,
    Trace,
    TraceFate,
)
from kubedistill_runtime.errors import BadInput

Key = tuple[str, int]
End = tuple[Stage, Reason]


def curate(
    traces: Iterable[Trace],
    questions: Iterable[str],
    pass_rates: Mapping[str, PassRate],
    spec: CurationSpec,
    *,
    prompt_opens_think: bool = False,
    match: Matched | None = None,
    mapper: Mapper = map,
    progress: Progress | None = None,
) -> Outcome:
    """Choose the corpus.

    The outcome depends on the content of the arguments, not on their order.

    traces: read once; of those that pass quality and correctness, the token ids (4 bytes each) or the text stay in
        memory, by the spec's unit.
    questions: the ids of all questions, sampled or not.
    pass_rates: the student's, by question id; not looked at unless difficulty asks for them.
    prompt_opens_think: see `flaw`.
    match: the number of questions or traces that is kept at most.
    mapper, progress: see `select_all`.
    Raises BadInput on a trace of an unknown question, a (question, sample) that comes twice, and a response without
    its token ids.
    """
    asked = set(questions)
    ends: dict[Key, End] = {}
    left: dict[str, dict[int, Units]] = {}
    for trace in traces:
        key = (trace.question_id, trace.sample_index)
        _check(trace, asked, known=key in ends or trace.sample_index in left.get(trace.question_id, {}))
        end = _end_by_itself(trace, spec, prompt_opens_think)
        if end is None:
            left.setdefault(trace.question_id, {})[trace.sample_index] = _units(trace, spec.diversity)
        else:
            ends[key] = end

    question_ends: dict[str, End] = {}
    dropped = too_easy(sorted(left), pass_rates, spec.difficulty, spec.seed)
    if match is not None and match.of == "questions":
        dropped |= not_drawn([question for question in left if question not in dropped], match, spec.seed)
    for question, reason in dropped.items():
        question_ends[question] = (Stage.DIFFICULTY, reason)
        ends.update({(question, index): question_ends[question] for index in left.pop(question)})

    selections = select_all(left, spec.diversity, spec.seed, mapper=mapper, progress=progress)
    if match is not None and match.of == "traces":
        selections = cut(selections, match, spec.seed)
    for question, selection in selections.items():
        if not selection.chosen:
            question_ends[question] = (Stage.DIVERSITY, beyond(match))
            ends.update({(question, index): question_ends[question] for index in left[question]})
            continue
        kept, passed_over = _diversity_reasons(spec.diversity, len(left[question]))
        question_ends[question] = (Stage.KEPT, Reason("kept", f"with {len(selection.chosen)} traces"))
        for index in left[question]:
            chosen = index in selection.chosen
            ends[question, index] = (Stage.KEPT, kept) if chosen else (Stage.DIVERSITY, passed_over)

    fates = tuple(TraceFate(*key, *ends[key]) for key in sorted(ends))
    question_ends.update(_without_candidates(asked - question_ends.keys(), fates))
    return Outcome(
        questions=tuple(
            _question_fate(question, question_ends[question], pass_rates, selections) for question in sorted(asked)
        ),
        traces=fates,
        funnel=count(len(asked), fates),
    )


def _check(trace: Trace, asked: set[str], *, known: bool) -> None:
    name = f"trace {trace.sample_index} of question {trace.question_id!r}"
    if trace.question_id not in asked:
        raise BadInput(f"{name}: there is no such question; the traces belong to another set of questions")
    if known:
        raise BadInput(f"{name}: is there twice; a sample of a question must be recorded once")
    if trace.response and not len(trace.response_token_ids):
        raise BadInput(f"{name}: has a response but no responseTokenIds; tokenize it with the teacher's tokenizer")


def _end_by_itself(trace: Trace, spec: CurationSpec, prompt_opens_think: bool) -> End | None:
    """Where a trace ends for reasons of its own, or None if it is a candidate."""
    if trace.surplus:
        return Stage.SAMPLING, Reason("surplus", "drawn beyond the samples that count")
    found = flaw(trace, spec.quality, prompt_opens_think=prompt_opens_think)
    if found is not None:
        return Stage.QUALITY, found
    wanted = spec.correctness
    if wanted == "any" or (wanted == "right" and trace.correct):
        return None
    if trace.error and not trace.correct:
        return Stage.CORRECTNESS, Reason("unverified", f"no verdict by {trace.method or 'the judge'}: {trace.error}")
    if wanted == "wrong":
        return (Stage.CORRECTNESS, Reason("correct", "right, and only wrong ones are kept")) if trace.correct else None
    return Stage.CORRECTNESS, Reason("incorrect", f"wrong answer by {trace.method or 'the judge'}")


def _units(trace: Trace, spec: DiversitySpec) -> Units:
    if spec.unit == "char":
        return trace.response
    tokens = trace.response_token_ids
    return tokens if isinstance(tokens, array) else array("I", tokens)


def _diversity_reasons(spec: DiversitySpec, candidates: int) -> tuple[Reason, Reason]:
    """Reasons for the chosen and for the others of a question."""
    if candidates <= spec.trajectories:
        kept = Reason("all_kept", f"{candidates} left, up to {spec.trajectories} are kept")
    else:
        kept = Reason(spec.select, f"among the {spec.trajectories} {spec.select} of {candidates}")
    return kept, Reason(f"not_{spec.select}", f"not among the {spec.trajectories} {spec.select} of {candidates}")


def _without_candidates(questions: set[str], fates: tuple[TraceFate, ...]) -> dict[str, End]:
    """Ends of the questions none of whose traces passed quality and correctness."""
    furthest: dict[str, Stage] = {}
    for fate in fates:
        if fate.question_id in questions and furthest.get(fate.question_id) is not Stage.CORRECTNESS:
            furthest[fate.question_id] = max(furthest.get(fate.question_id, fate.stage), fate.stage, key=_depth)
    reasons = {
        Stage.SAMPLING: Reason("not_sampled", "has no trace that counts"),
        Stage.QUALITY: Reason("none_well_formed", "none of its traces is well formed"),
        Stage.CORRECTNESS: Reason("none_correct", "none of its well-formed traces is correct"),
    }
    ends = {question: furthest.get(question, Stage.SAMPLING) for question in questions}
    return {question: (stage, reasons[stage]) for question, stage in ends.items()}


def _depth(stage: Stage) -> int:
    return list(Stage).index(stage)


def _question_fate(
    question: str, end: End, pass_rates: Mapping[str, PassRate], selections: Mapping[str, Selection]
) -> QuestionFate:
    rate = pass_rates[question].rate if question in pass_rates else None
    return QuestionFate(question, *end, pass_rate=rate, selection=selections.get(question))
