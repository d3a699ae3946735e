"""DistillationStudy: one job in many variants, to see what helps."""

import itertools
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from kubedistill_api.base import API_VERSION, DnsLabel, Model, Rule
from kubedistill_api.document import Path
from kubedistill_api.explain import Schema, dotted, explain, nearest
from kubedistill_api.job import Recipe, RuntimeRef, Seconds
from kubedistill_api.meta import ObjectMeta
from kubedistill_api.probe import MAX_STUDENTS
from kubedistill_api.seeds import SEED_RULES, Seed, check_seeds
from kubedistill_api.status import JobStatus
from kubedistill_api.variants import MATCHED_WITH, STANDARD, Match, Standard, StandardVariant

Changes = Annotated[dict[str, Any], Field(max_length=32)]
"""Dotted path below `spec.job` -> value; entries of lists by their number from 0, as `questions.0.limit`."""


_MATCHING = [name for name, standard in STANDARD.items() if standard.match]


class Variant(Model):
    """The job with some of its fields changed."""

    name: Annotated[DnsLabel, Field(max_length=24)]
    """Name in the results and in the names of the stages; at most 24 characters."""
    like: StandardVariant | None = None
    """The standard variant that it starts from. Default: the job as it is."""
    overrides: Changes = {}
    """Fields of the job and their values: `{training.learningRate: 1e-4}`; entries of lists by their number from 0, as
    `questions.0.limit`. Null takes a field away."""


class DistillationStudySpec(Model):
    """A job, its variants, and what they are compared with."""

    runtime_ref: RuntimeRef | None = None
    """Which runtime the pods come from. `kubedistill study` works without."""
    job: Recipe
    """The job that is varied: the fields of a DistillationJob that say what is made."""
    ladder: Annotated[list[StandardVariant], Field(max_length=len(STANDARD))] = list(get_args(StandardVariant))
    """Standard variants: the paper's ladder and the controls that it lacks; docs/concepts.md says what each is. P is
    `job.curation.diversity.trajectories`. Default: all of them."""
    variants: Annotated[list[Variant], Field(max_length=64)] = []
    """Variants of your own."""
    grid: Annotated[dict[str, Annotated[list[Any], Field(min_length=1, max_length=64)]], Field(max_length=8)] = {}
    """Fields of the job and the values that each takes, in all combinations, with every variant:
    `{training.learningRate: [1e-5, 1e-4]}`."""
    seeds: Annotated[list[Seed], Field(max_length=16)] = [0, 1, 2]
    """Seeds of the training: every variant is trained with each, and their spread widens the intervals. Default: 3; one
    is not enough to tell a difference between variants from one between trainings."""
    redraw: bool = False
    """With each of `seeds`, traces are drawn anew too, and what variants pick at random is picked anew. Then the
    intervals speak of the variants; otherwise of the one set of traces that was drawn. Every seed costs a sampling;
    three are the least, five are better. Default false."""
    reference: DnsLabel = MATCHED_WITH
    """The variant that all others are compared with. Default `right-hard-diverse`, the paper's method."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Probability with which no interval of a difference misses it, over all comparisons of the study."""
    variants_per_evaluation: Annotated[int, Field(ge=1, le=MAX_STUDENTS)] = 1
    """Variants whose students one stage scores in turn, without starting the engine anew. More saves starts, which is
    most of the time where models are tiny; with fewer, stages run side by side, and a variant that is added later does
    not score the others once more. Default 1."""
    suspend: bool = False
    """True stops the pods and keeps what is done."""
    priority_class_name: str | None = None
    """PriorityClass of the pods."""
    active_deadline_seconds: Seconds | None = None
    """Fail the study when it has been active for so long; time suspended, in a queue, or waiting for a place
    on the runtime does not count."""
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = 3
    """Application errors that each stage may have before the study fails."""
    ttl_seconds_after_finished: Seconds | None = None
    """Delete the resource so long after its end."""

    rules: ClassVar = (
        Rule("self.job.evaluation.benchmarks.size() > 0", "job.evaluation.benchmarks needs at least one to compare by"),
        Rule("!has(self.job.teacher.probeRef)", "job.teacher.probeRef is not for studies: give model or endpoint"),
        Rule("self.ladder.size() + self.variants.size() > 1", "ladder and variants need two variants to compare"),
        Rule("self.ladder.all(name, self.ladder.exists_one(other, other == name))", "ladder names a variant twice"),
        Rule(
            "self.variants.all(one, !(one.name in self.ladder) && "
            "self.variants.exists_one(other, other.name == one.name))",
            "names of variants must differ, also from the ladder's",
        ),
        Rule(
            "self.reference in self.ladder || self.variants.exists(one, one.name == self.reference)",
            "reference must be one of the variants",
        ),
        Rule(
            "(self.ladder.size() + self.variants.size()) * "
            f"(self.seeds.size() > 1 ? self.seeds.size() : 1) <= {MAX_STUDENTS}",
            f"variants x seeds may be {MAX_STUDENTS} at most",
        ),
        Rule(
            f"'{MATCHED_WITH}' in self.ladder || (self.ladder.all(name, !(name in {_MATCHING})) && "
            f"self.variants.all(one, !has(one.like) || !(one.like in {_MATCHING})))",
            f"variants that are matched need {MATCHED_WITH} in the ladder",
        ),
        *SEED_RULES,
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.job.evaluation.benchmarks:
            raise ValueError("job.evaluation.benchmarks needs at least one entry: variants are compared by scores")
        if self.job.teacher.probe_ref:
            raise ValueError(
                "job.teacher.probeRef is not for studies; give model or endpoint: the probe's status names its winner"
            )
        _check_names(self)
        check_seeds(self.seeds, redraw=self.redraw)
        students = len(self.ladder + self.variants) * len(cells(self)) * max(1, len(self.seeds))
        if students > MAX_STUDENTS:
            raise ValueError(
                f"grid: {len(self.ladder + self.variants)} variants x {len(cells(self))} combinations of the grid x "
                f"{max(1, len(self.seeds))} seeds are {students} students, {MAX_STUDENTS} at most; take fewer of them, "
                "or make several studies: they share what they have in common"
            )
        arms(self)
        return self


class DistillationStudy(Model):
    """Shows what helps: a job's ladder of variants with the controls for it, each compared with a reference."""

    api_version: Literal["kubedistill.io/v1alpha1"] = API_VERSION
    """Version of this schema."""
    kind: Literal["DistillationStudy"] = "DistillationStudy"
    """Kind of this resource."""
    metadata: ObjectMeta
    """Name, namespace, labels."""
    spec: DistillationStudySpec
    """What is wanted."""
    status: JobStatus | None = None
    """What is. Written by the operator only."""


@dataclass(frozen=True)
class Arm:
    """A variant in one combination of the grid."""

    name: str
    """The variant's name, and with a grid the number of the combination: `right-hard-g2`."""
    recipe: Recipe
    settings: Mapping[str, Any]
    """The combination of the grid."""
    match: Match | None
    """What it takes as many of as the arm `matched` has."""
    matched: str | None
    against: str | None
    """The arm that it is compared with: the reference in the same combination; of the reference itself the one in the
    first combination. None for that one."""


def cells(spec: DistillationStudySpec) -> list[dict[str, Any]]:
    """Every combination of the grid; one empty one without a grid."""
    return [dict(zip(spec.grid, values, strict=True)) for values in itertools.product(*spec.grid.values())]


def arms(spec: DistillationStudySpec) -> list[Arm]:
    """Everything that is compared, the ladder first.

    Raises ValueError that names the variant and the field where one makes no valid job.
    """
    combinations = cells(spec)
    several = len(combinations) > 1
    return [
        Arm(
            name=_arm(name, number, several),
            recipe=_recipe(spec, name, changes, settings),
            settings=settings,
            match=standard.match if standard else None,
            matched=_arm(MATCHED_WITH, number, several) if standard and standard.match else None,
            against=_against(spec, name, number, several),
        )
        for name, standard, changes in _variants(spec)
        for number, settings in enumerate(combinations, 1)
    ]


def _arm(variant: str, number: int, several: bool) -> str:
    return f"{variant}-g{number}" if several else variant


def _against(spec: DistillationStudySpec, name: str, number: int, several: bool) -> str | None:
    if name != spec.reference:
        return _arm(spec.reference, number, several)
    return _arm(name, 1, several) if number > 1 else None


def _variants(spec: DistillationStudySpec) -> Iterator[tuple[str, Standard | None, dict[str, Any]]]:
    """Name, the standard variant that it is like, and its changes to the job."""
    for name in spec.ladder:
        yield name, STANDARD[name], STANDARD[name].overrides
    for variant in spec.variants:
        standard = STANDARD[variant.like] if variant.like else None
        yield variant.name, standard, {**(standard.overrides if standard else {}), **variant.overrides}


def _check_names(spec: DistillationStudySpec) -> None:
    names = [*spec.ladder, *(variant.name for variant in spec.variants)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"variants: names must differ, also from the ladder's (twice: {', '.join(twice)}); rename one")
    if len(names) < 2:
        raise ValueError("ladder and variants name fewer than two variants; there is nothing to compare")
    if spec.reference not in names:
        near = nearest(spec.reference, names)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"reference: there is no variant {spec.reference}; {hint}variants: {', '.join(names)}")
    difficulty, kept = spec.job.curation.difficulty, spec.job.curation.diversity.trajectories
    measured = difficulty.max_pass_rate is not None or difficulty.keep_hardest is not None
    like = {variant.name: variant.like for variant in spec.variants if variant.like} | {n: n for n in spec.ladder}
    for name, standard in like.items():
        if STANDARD[standard].needs_difficulty and not measured:
            raise ValueError(
                f"job.curation.difficulty says not which questions are hard, and {name} is about them; set keepHardest "
                "or maxPassRate, or leave that variant out"
            )
        if STANDARD[standard].needs_several and kept < 2:
            raise ValueError(
                f"job.curation.diversity.trajectories is {kept}, and {name} is about several traces of a question; "
                "raise it, or leave that variant out"
            )
        if STANDARD[standard].match and MATCHED_WITH not in spec.ladder:
            raise ValueError(
                f"ladder: {name} takes as many {STANDARD[standard].match} as {MATCHED_WITH}, which is not there; "
                f"add {MATCHED_WITH}, or leave {name} out"
            )


def _recipe(spec: DistillationStudySpec, name: str, changes: dict[str, Any], settings: dict[str, Any]) -> Recipe:
    """The job with a variant's changes, and those of the grid.

    Raises ValueError that names the field, what is wrong and what would be right.
    """
    data = spec.job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    own = f"ladder: {name}" if name in spec.ladder else f"variants: {name}"
    for where, part in ((own, changes), ("grid", settings)):
        for path, value in part.items():
            _put(data, path, value, f"{where}: {path}")
    told = ", ".join(f"{path} {value}" for path, value in settings.items())
    where = f"grid: {name} with {told}" if settings else own
    try:
        recipe = Recipe.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as invalid:
        field, problem, fix = explain(invalid.errors()[0], data, _schema())
        raise ValueError(f"{where}: job.{dotted(field)}: {problem}" + (f"; {fix}" if fix else "")) from None
    forbidden = {
        "evaluation": (
            recipe.evaluation != spec.job.evaluation,
            "variants are compared by the same questions, asked in the same way; leave it as it is",
        ),
        "teacher.probeRef": (
            recipe.teacher.probe_ref is not None,
            "a study needs model or endpoint; leave it as it is",
        ),
        "training.seed": (
            recipe.training.seed != spec.job.training.seed,
            "every variant is trained with the same ones; name the seeds in seeds",
        ),
    }
    for fixed, (differs, why) in forbidden.items():
        if differs:
            raise ValueError(f"{where}: job.{fixed} cannot differ between variants: {why}")
    return recipe


def _put(data: Any, path: str, value: Any, where: str) -> None:
    """Sets the field at a dotted path; objects on the way that are not there are made."""
    steps: list[str | int] = [int(step) if step.isdecimal() else step for step in path.split(".")]
    node = data
    for at, step in enumerate(steps):
        _check_step(node, step, steps[:at], where)
        if at == len(steps) - 1:
            node[step] = deepcopy(value)
        else:
            if not isinstance(node, list) and node.get(step) is None:
                node[step] = {}
            node = node[step]


def _check_step(node: Any, step: str | int, before: list[str | int], where: str) -> None:
    if isinstance(node, list):
        if isinstance(step, str) or step >= len(node):
            example = ".".join(map(str, [*before, 0]))
            raise ValueError(
                f"{where}: job.{dotted(tuple(before))} is a list of {len(node)}; name an entry by its number from 0, "
                f"as {example}"
            )
    elif not _schema().at((*before, step)):
        raise ValueError(f"{where}: there is no field {step} in job{_below(before)}; {_fields([*before, step])}")


def _below(steps: Path | list[str | int]) -> str:
    return f".{dotted(tuple(steps))}" if steps else ""


def _fields(steps: list[str | int]) -> str:
    names = sorted(_schema().fields(tuple(steps[:-1])))
    near = nearest(str(steps[-1]), names)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}fields there: {', '.join(names) or 'none'}"


@cache
def _schema() -> Schema:
    return Schema(Recipe)
