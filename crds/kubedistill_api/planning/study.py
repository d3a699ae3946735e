"""The stages of a study: every variant, from its corpus to its students."""

import itertools
from collections.abc import Mapping, Sequence

from kubedistill_api.graph import Builder
from kubedistill_api.job import Recipe
from kubedistill_api.planning.stages import (
    add_baseline,
    add_prepare,
    add_report,
    add_sample,
    evaluation_params,
    following,
    wants_rates,
    weights,
)
from kubedistill_api.stage import ArmStages, CompareParams, CurateParams, TrainParams
from kubedistill_api.study import Arm, DistillationStudy, arms


def plan_study(builder: Builder, study: DistillationStudy) -> None:
    """Every variant, from its corpus to its students; what variants have in common is there once."""
    spec = study.spec
    compared = arms(spec)
    by_name = {arm.name: arm for arm in compared}
    rates = any(wants_rates(arm.recipe) for arm in compared)
    draws = len(spec.seeds) if spec.redraw else 1
    shared: dict[str, tuple[str, str | None]] = {}
    """Of each variant: prepare and baseline."""
    samples: dict[str, list[str]] = {}
    """Of each variant one for each draw, as the corpora are."""
    for arm in compared:
        prepare = add_prepare(builder, arm.recipe)
        shared[arm.name] = (prepare, add_baseline(builder, prepare, arm.recipe, rates))
        samples[arm.name] = [_traces(builder, prepare, _redrawn(arm.recipe, draw)) for draw in range(draws)]
    curates: dict[str, list[str]] = {}
    trains: dict[str, list[str]] = {}
    # What others are matched with comes first, since a stage is added after those that it needs.
    for arm in sorted(compared, key=lambda arm: arm.matched is not None):
        matched = by_name[arm.matched] if arm.matched else None
        curates[arm.name] = []
        for draw, sample in enumerate(samples[arm.name]):
            like = curates[matched.name][draw] if matched else None
            curates[arm.name].append(_corpus(builder, arm, draw, draws, like, sample, *shared[arm.name]))
        seeds = spec.seeds or [arm.recipe.training.seed]
        trains[arm.name] = []
        for number, seed in enumerate(seeds, 1):
            needs = {"curate": curates[arm.name][number - 1 if spec.redraw else 0]}
            steps = matched is not None and arm.match == "steps"
            if steps and matched:
                needs["matched"] = trains[matched.name][number - 1]
            params = TrainParams(
                model=weights(arm.recipe.student),
                training=arm.recipe.training.model_copy(update={"seed": seed}),
                match_steps=steps,
            )
            end = f"-s{number}" if len(seeds) > 1 else ""
            trains[arm.name].append(builder.add(f"train-{arm.name}{end}", params, **needs))
    evaluates = _scored(builder, study, compared, trains, shared)
    order = [arm.name for arm in compared]
    stages = {
        arm.name: ArmStages(
            curate=curates[arm.name][0],
            curates=curates[arm.name] if spec.redraw else [],
            trains=trains[arm.name],
            evaluate=evaluates[arm.name],
            against=arm.against,
            settings=", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in arm.settings.items()),
        )
        for arm in compared
    }
    needed = [*itertools.chain(*curates.values()), *itertools.chain(*trains.values()), *evaluates.values()]
    table = CompareParams(arms=stages, order=order, confidence=spec.confidence)
    builder.add("compare", table, **{name: name for name in needed})
    add_report(builder, study)


def _redrawn(recipe: Recipe, draw: int) -> Recipe:
    """The recipe with other seeds for the teacher's traces and for what curation picks at random."""
    teacher, curation = recipe.teacher, recipe.curation
    sampling = teacher.sampling.model_copy(update={"seed": following(teacher.sampling.seed, draw)})
    return recipe.model_copy(
        update={
            "teacher": teacher.model_copy(update={"sampling": sampling}),
            "curation": curation.model_copy(update={"seed": following(curation.seed, draw)}),
        }
    )


def _traces(builder: Builder, prepare: str, recipe: Recipe) -> str:
    teacher = recipe.teacher
    return add_sample(builder, prepare, recipe, teacher.model, teacher.endpoint, teacher.engine)


def _corpus(
    builder: Builder,
    arm: Arm,
    draw: int,
    draws: int,
    like: str | None,
    sample: str,
    prepare: str,
    baseline: str | None,
) -> str:
    """Of one of the draws; `like` is the corpus of the same draw that it may be matched with."""
    needs = {"prepare": prepare, "sample": sample}
    if baseline:
        needs["baseline"] = baseline
    params = CurateParams(curation=_redrawn(arm.recipe, draw).curation)
    if like and arm.match != "steps":
        params = params.model_copy(update={"match": arm.match})
        needs["matched"] = like
    end = f"-s{draw + 1}" if draws > 1 else ""
    return builder.add(f"curate-{arm.name}{end}", params, **needs)


def _scored(
    builder: Builder,
    study: DistillationStudy,
    compared: Sequence[Arm],
    trains: Mapping[str, list[str]],
    shared: Mapping[str, tuple[str, str | None]],
) -> dict[str, str]:
    """The evaluate stage of each variant; neighbours with students of the same kind share one, as many as are asked
    for."""
    groups: dict[str, list[Arm]] = {}
    for arm in compared:
        prepare, baseline = shared[arm.name]
        same = arm.recipe.student.model_dump_json() + f"{prepare} {baseline}"
        groups.setdefault(same, []).append(arm)
    found: dict[str, str] = {}
    for group in groups.values():
        size = study.spec.variants_per_evaluation
        for start in range(0, len(group), size):
            part = group[start : start + size]
            first = part[0]
            prepare, baseline = shared[first.name]
            students = list(dict.fromkeys(train for arm in part for train in trains[arm.name]))
            needs = {"prepare": prepare, **({"baseline": baseline} if baseline else {}), **{t: t for t in students}}
            params = evaluation_params(first.recipe, first.recipe.evaluation.samples, students)
            found |= dict.fromkeys((arm.name for arm in part), builder.add(f"evaluate-{first.name}", params, **needs))
    return found
