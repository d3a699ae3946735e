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
    ends,
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
    drawn: dict[str, list[tuple[Recipe, str]]] = {}
    """Of each variant the recipe and the sample stage of each draw."""
    for arm in compared:
        prepare = add_prepare(builder, arm.recipe)
        shared[arm.name] = (prepare, add_baseline(builder, prepare, arm.recipe, rates))
        recipes = [_redrawn(arm.recipe, draw) for draw in range(draws)]
        drawn[arm.name] = [(recipe, _traces(builder, prepare, recipe)) for recipe in recipes]
    curates: dict[str, list[str]] = {}
    trains: dict[str, list[str]] = {}
    # What others are matched with comes first, since a stage is added after those that it needs.
    for arm in sorted(compared, key=lambda arm: arm.matched is not None):
        matched = by_name[arm.matched] if arm.matched else None
        like = curates[matched.name] if matched and arm.match != "steps" else None
        curates[arm.name] = _corpora(builder, arm, drawn[arm.name], like, *shared[arm.name])
        seeds = spec.seeds or [arm.recipe.training.seed]
        trains[arm.name] = []
        for number, (end, seed) in enumerate(zip(ends(len(seeds)), seeds, strict=True)):
            needs = {"curate": curates[arm.name][number if spec.redraw else 0]}
            steps = matched is not None and arm.match == "steps"
            if steps and matched:
                needs["matched"] = trains[matched.name][number]
            params = TrainParams(
                model=weights(arm.recipe.student),
                training=arm.recipe.training.model_copy(update={"seed": seed}),
                match_steps=steps,
            )
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


def _corpora(
    builder: Builder,
    arm: Arm,
    drawn: Sequence[tuple[Recipe, str]],
    like: Sequence[str] | None,
    prepare: str,
    baseline: str | None,
) -> list[str]:
    """One of each draw; `like` are the corpora of the same draws that they take as many from."""
    found = []
    for number, (end, (recipe, sample)) in enumerate(zip(ends(len(drawn)), drawn, strict=True)):
        params, needs = CurateParams(curation=recipe.curation), {"prepare": prepare, "sample": sample}
        if baseline:
            needs["baseline"] = baseline
        if like:
            params = params.model_copy(update={"match": arm.match})
            needs["matched"] = like[number]
        found.append(builder.add(f"curate-{arm.name}{end}", params, **needs))
    return found


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
