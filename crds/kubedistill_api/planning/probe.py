"""The stages of a probe: every round of every candidate."""

from kubedistill_api.graph import ALREADY_DRAWN, Builder
from kubedistill_api.planning.stages import add_baseline, add_prepare, add_report, add_student, ends, following, weights
from kubedistill_api.probe import ProcedureSpec, TeacherProbe, TeacherProbeSpec
from kubedistill_api.stage import DecideParams, Guard, QuestionSubset, SampleParams


def plan_probe(builder: Builder, probe: TeacherProbe) -> None:
    """Every round of every candidate; which of them are needed is decided on the way."""
    spec, procedure = probe.spec, probe.spec.procedure
    draws = _draws_of(spec)
    prepare = add_prepare(builder, spec)
    baseline = add_baseline(builder, prepare, spec)
    before: dict[str, str] = {}
    """The last round's sample stage of each candidate, or of each of its draws."""
    decided: dict[str, str] = {}
    """The last round's decide stage, as a need."""
    for number in range(1, procedure.rounds + 1):
        suffix = f"-r{number}" if procedure.rounds > 1 else ""
        students: dict[str, list[str]] = {}
        for candidate in spec.candidates:
            guard = Guard(decide=next(iter(decided)), candidate=candidate.name) if decided else None
            for end, draw_seed, seeds in draws:
                subset = _subset(procedure, number, draw_seed)
                drawn = {ALREADY_DRAWN: before[candidate.name + end]} if before.get(candidate.name + end) else {}
                params = SampleParams(
                    model=weights(candidate.model),
                    endpoint=candidate.endpoint,
                    engine=candidate.engine,
                    sampling=spec.sampling.model_copy(update={"seed": draw_seed}),
                    verification=spec.curation.verification,
                    subset=subset,
                )
                name = f"-{candidate.name}{suffix}{end}"
                sample = builder.add(f"sample{name}", params, guard, prepare=prepare, **drawn)
                before[candidate.name + end] = sample
                students.setdefault(candidate.name, []).extend(
                    add_student(builder, spec, name, prepare, sample, baseline, seeds=seeds, subset=subset, guard=guard)
                )
        compared = DecideParams(
            students=students,
            round=number,
            rounds=procedure.rounds,
            growth=procedure.growth,
            confidence=procedure.confidence,
            draws=len(draws),
        )
        guard = Guard(decide=next(iter(decided))) if decided else None
        evaluations = {role: role for roles in students.values() for role in roles}
        decide = builder.add(f"decide{suffix}", compared, guard, **evaluations, **decided)
        decided = {decide: decide}
    add_report(builder, probe)


def _draws_of(spec: TeacherProbeSpec) -> list[tuple[str, int, list[int]]]:
    """Each draw of a candidate's traces: the end of its stages' names, its seed, and the seeds of the trainings on it.

    The first one is what a job with this sampling draws, and can take over.
    """
    if not spec.procedure.redraw:
        return [("", spec.sampling.seed, spec.procedure.seeds)]
    first, seeds = spec.sampling.seed, spec.procedure.seeds
    numbered = enumerate(zip(ends(len(seeds)), seeds, strict=True))
    return [(end, following(first, number), [seed]) for number, (end, seed) in numbered]


def _subset(procedure: ProcedureSpec, number: int, seed: int) -> QuestionSubset | None:
    """The questions of a round; None in the last, which has all."""
    if number == procedure.rounds:
        return None
    return QuestionSubset(share=procedure.growth ** float(number - procedure.rounds), seed=seed)
