"""What a whole plan will take: memory of every role, tokens, time and cost of every stage."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kubedistill_api.data import (
    Benchmark,
    EndpointSource,
    EngineSpec,
    ModelSource,
    QuestionSource,
    SamplingSpec,
    TeacherSampling,
)
from kubedistill_api.graph import ALREADY_DRAWN, Graph, Node, Resource, recipe
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.runtime import RoleSpec, RuntimeSpec
from kubedistill_api.stage import (
    ROLES,
    BaselineParams,
    CurateParams,
    EvaluateParams,
    PrepareParams,
    SampleParams,
    StageResult,
    TrainParams,
)
from kubedistill_api.standings import rounds_of
from kubedistill_api.study import DistillationStudy
from kubedistill_runtime.estimate import tokens as count
from kubedistill_runtime.estimate.benchmarks import BenchmarkForecast
from kubedistill_runtime.estimate.memory import Fit, engine_fit, training_fit
from kubedistill_runtime.estimate.models import Architecture, architecture
from kubedistill_runtime.estimate.time import Duration, decoding, rate_limited, training
from kubedistill_runtime.estimate.tokens import Count, Tokens

PROMPT_ROOM = 1024
"""Tokens for the prompt in an engine's length, where the manifest gives none."""


@dataclass(frozen=True)
class StageForecast:
    """One stage of the plan."""

    name: str
    kind: str
    needs: tuple[str, ...]
    digest: str
    reused: bool
    """Its result is there already: it will cost nothing."""
    role: str
    gpus: int
    gpu: str
    tokens: Tokens | None = None
    duration: Duration | None = None
    endpoint: bool = False
    """Somebody else serves the model: it is paid by tokens, if at all, and its pace is not known here."""
    limited_seconds: float | None = None
    """At least so long by an endpoint's rate limits."""
    cost: float | None = None
    maybe: bool = False
    """A decision may make it needless."""


@dataclass(frozen=True)
class ModelFit:
    """A model in the pods that it is meant for."""

    role: str
    what: str
    """What is done with it: `serves`, `trains`."""
    model: str
    field: str
    """Where the manifest says so."""
    role_spec: RoleSpec
    architecture: Architecture | None
    length: int
    """Tokens of the longest sequence, or of one micro-batch."""
    fit: Fit | None


@dataclass
class Forecast:
    """The plan with its figures."""

    resource: str
    questions: list[tuple[str, Count]] = field(default_factory=list)
    """Sources and benchmarks with their sizes, by their field in the manifest."""
    stages: list[StageForecast] = field(default_factory=list)
    fits: list[ModelFit] = field(default_factory=list)
    benchmarks: list[BenchmarkForecast] = field(default_factory=list)
    """What the scores will be able to tell."""
    warnings: list[str] = field(default_factory=list)

    @property
    def fits_memory(self) -> bool:
        return all(fit.fit is None or fit.fit.verdict != "too big" for fit in self.fits)

    @property
    def gpu_seconds(self) -> float:
        """Of the stages that are still to do and could be estimated."""
        return sum(stage.duration.gpu_seconds for stage in self.stages if stage.duration and not stage.reused)

    @property
    def cost(self) -> float | None:
        costs = [stage.cost for stage in self.stages if stage.cost is not None and not stage.reused]
        return sum(costs) if costs else None


def forecast(
    resource: Resource, graph: Graph, runtime: RuntimeSpec, results: Mapping[str, StageResult] | None = None
) -> Forecast:
    """Estimates a plan. `results` are those that are there already, by digest; what they measured replaces what would
    be assumed. Reads local files for their number of questions and config.json files, nothing else."""
    return _Forecaster(resource, graph, runtime, results or {}).forecast


class _Forecaster:
    """Goes through the plan in its order; each stage's figures start from those before it."""

    def __init__(
        self, resource: Resource, graph: Graph, runtime: RuntimeSpec, results: Mapping[str, StageResult]
    ) -> None:
        self.forecast = Forecast(graph.resource)
        self._resource, self._graph, self._runtime, self._results = resource, graph, runtime, results
        self._candidates = {
            name: number
            for number, rounds in enumerate(rounds_of(graph).values())
            for stages in rounds
            for name in stages["sample"]
        }
        """The number of the candidate that each sample stage of a probe is of."""
        self._recipe = recipe(resource)
        self._questions = self._benchmark_questions = 0
        self._of_harness: dict[str, int] = {}
        """Questions of each harness task, by the benchmark's name; not among those of the other benchmarks."""
        self._prompt: float = count.PROMPT_TOKENS
        self._responses: dict[str, float] = {}
        """Mean response of each sample stage."""
        self._traces: dict[str, int] = {}
        """Traces that each curate stage keeps."""
        self._sampled: dict[str, TeacherSampling] = {}
        """How each sample stage draws."""
        self._steps: dict[str, int] = {}
        """Optimizer steps of each train stage."""
        for node in graph.nodes:
            self._stage(node)

    def _stage(self, node: Node) -> None:
        role: RoleSpec = getattr(self._runtime, ROLES[node.kind])
        result = self._results.get(node.digest)
        stage = StageForecast(
            name=node.name,
            kind=node.kind,
            needs=tuple(node.needs.values()),
            digest=node.digest,
            reused=result is not None,
            role=ROLES[node.kind],
            gpus=role.gpus,
            gpu=role.gpu.name,
            maybe=node.guard is not None,
        )
        match node.params:
            case PrepareParams() as params:
                self._count(params, result)
            case SampleParams() as params:
                stage = self._sample(stage, node, params, role, result)
            case BaselineParams() as params:
                stage = self._baseline(stage, params, role)
            case CurateParams() as params:
                self._curate(node, params, result)
            case TrainParams() as params:
                stage = self._train(stage, node, params, role)
            case EvaluateParams() as params:
                students = max(1, len(params.students))
                drawn = self._scored(params.evaluation, params.harness, students)
                stage = self._serve(
                    stage, params.engine, drawn, role, params.evaluation.max_tokens, self._student_of(node)
                )
        if stage.duration and role.gpu.price_per_hour is not None:
            stage = replace(stage, cost=stage.duration.gpu_seconds / 3600 * role.gpu.price_per_hour)
        self.forecast.stages.append(stage)

    def _count(self, params: PrepareParams, result: StageResult | None) -> None:
        sources: list[tuple[str, QuestionSource]] = [
            *((f"{self._where}.questions[{i}]", source) for i, source in enumerate(params.questions)),
            *((f"{self._where}.evaluation.benchmarks[{i}]", source) for i, source in enumerate(params.benchmarks)),
        ]
        counts = [(where, count.count_questions(source)) for where, source in sources]
        self.forecast.questions = counts
        self._questions = sum(c.value for where, c in counts if "benchmarks" not in where)
        own = counts[len(params.questions) :]
        sizes = {one.name: found.value for one, (_, found) in zip(params.benchmarks, own, strict=True)}
        self._of_harness = {one.name: sizes[one.name] for one in params.benchmarks if one.harness}
        self._benchmark_questions = sum(sizes.values()) - sum(self._of_harness.values())
        if result:
            self._questions = _number(result, "questions") or self._questions
            if measured := _number(result, "benchmark_questions"):
                self._benchmark_questions = measured - (_number(result, "harness_questions") or 0)
            return
        for where, found in counts:
            if found.basis == "assumed":
                self.forecast.warnings.append(
                    f"{where}: its size is not known here; {found.value} questions are assumed (set limit to bound it)"
                )

    def _sample(
        self, stage: StageForecast, node: Node, params: SampleParams, role: RoleSpec, result: StageResult | None
    ) -> StageForecast:
        measured = None
        traces = result.outputs.get("traces") if result else None
        if result and traces and traces.rows:
            measured = result.usage.completion_tokens / traces.rows
            if result.usage.prompt_tokens:
                self._prompt = result.usage.prompt_tokens / traces.rows
        sampling = params.sampling
        questions = _part(params, self._questions)
        if ALREADY_DRAWN in node.needs:
            earlier = self._graph[node.needs[ALREADY_DRAWN]].params
            assert isinstance(earlier, SampleParams)
            questions -= _part(earlier, self._questions)
        drawn = count.sampling_tokens(
            questions, count.draws_per_question(sampling), sampling.max_tokens, measured or None
        )
        self._responses[node.name] = drawn.mean_response
        self._sampled[node.name] = sampling
        endpoint: EndpointSource | None = params.endpoint
        if endpoint or params.model is None:
            limits = (endpoint.requests_per_minute, endpoint.tokens_per_minute) if endpoint else (None, None)
            # The pods of an endpoint's client need no GPU, whatever the role has.
            limited = rate_limited(drawn, *limits)
            return replace(stage, tokens=drawn, gpus=0, endpoint=True, limited_seconds=limited)
        where = f"{self._where}.teacher"
        if isinstance(self._resource, TeacherProbe):
            where = f"spec.candidates[{self._candidates[node.name]}]"
        return self._serve(stage, params.engine, drawn, role, sampling.max_tokens, params.model, where)

    def _baseline(self, stage: StageForecast, params: BaselineParams, role: RoleSpec) -> StageForecast:
        parts, longest = [], 0
        if params.pass_rate:
            parts.append(count.draws(params.pass_rate, self._questions))
            longest = params.pass_rate.max_tokens
        if params.evaluation:
            parts.append(self._scored(params.evaluation, params.harness, 1))
            longest = max(longest, params.evaluation.max_tokens)
        return self._serve(stage, params.engine, count.add(*parts), role, longest, params.model)

    def _scored(self, spec: SamplingSpec, harness: list[Benchmark], models: int) -> Tokens:
        """Tokens of so many models' answers to the benchmarks."""
        of_harness = [
            count.harness_draws(one.harness, self._of_harness[one.name] * models) for one in harness if one.harness
        ]
        return count.add(count.draws(spec, self._benchmark_questions * models), *of_harness)

    def _serve(
        self,
        stage: StageForecast,
        engine: EngineSpec,
        drawn: Tokens,
        role: RoleSpec,
        max_tokens: int,
        model: ModelSource,
        where: str = "",
    ) -> StageForecast:
        """A stage with an engine; without `where` it serves the student."""
        where = where or f"{self._where}.student"
        figures, name = architecture(model), model.uri
        length = engine.max_model_len or max_tokens + PROMPT_ROOM
        if figures and figures.context and not engine.max_model_len:
            length = min(length, figures.context)
        fit = engine_fit(figures, engine, role, length, f"{where}.engine") if figures else None
        self._add(ModelFit(stage.role, "serves", name, where, role, figures, length, fit))
        if figures and figures.context and max_tokens >= figures.context and figures.source != "guess":
            self.forecast.warnings.append(
                f"{where}: {name} reads {figures.context} tokens at most, maxTokens {max_tokens} cannot be reached"
            )
        questions = self._questions if stage.kind == "sample" else self._questions + self._benchmark_questions
        duration = decoding(drawn, questions, figures, engine, role, fit) if figures and fit else None
        return replace(stage, tokens=drawn, duration=duration)

    def _curate(self, node: Node, params: CurateParams, result: StageResult | None) -> None:
        kept = count.kept_traces(result.metrics) if result else None
        questions = _part(params, self._questions)
        sampling = self._sampled[node.needs["sample"]]
        expected = count.corpus_size(questions, sampling, params.curation)
        if params.match:
            expected = min(expected, self._traces[node.needs["matched"]])
        self._traces[node.name] = kept or expected
        self._responses[node.name] = self._responses[node.needs["sample"]]

    def _train(self, stage: StageForecast, node: Node, params: TrainParams, role: RoleSpec) -> StageForecast:
        curate = node.needs["curate"]
        drawn = count.training_tokens(self._traces[curate], self._responses[curate], params.training, self._prompt)
        if params.match_steps:
            drawn = count.with_steps(drawn, self._steps[node.needs["matched"]])
        self._steps[node.name] = drawn.steps
        figures = architecture(params.model)
        fit = training_fit(figures, params.training, role) if figures else None
        length = params.training.packed_tokens
        self._add(
            ModelFit(stage.role, "trains", params.model.uri, f"{self._where}.training", role, figures, length, fit)
        )
        duration = training(drawn, figures, role) if figures else None
        return replace(stage, tokens=drawn, duration=duration)

    @property
    def _where(self) -> str:
        """Field of the manifest below which the recipe is."""
        return "spec.job" if isinstance(self._resource, DistillationStudy) else "spec"

    def _student_of(self, node: Node) -> ModelSource:
        """What the first training that a stage needs starts from."""
        params = (self._graph[need].params for need in node.needs.values())
        return next((p.model for p in params if isinstance(p, TrainParams)), self._recipe.student)

    def _add(self, fit: ModelFit) -> None:
        """Once for equal work; what does not fit, or is not known, becomes a warning."""
        if fit in self.forecast.fits:
            return
        self.forecast.fits.append(fit)
        warnings: list[str] = []
        if fit.architecture is None:
            warnings.append(f"{fit.field}: the size of {fit.model} is not known; memory and time are not estimated")
        elif fit.architecture.source == "guess":
            size = fit.architecture.parameters / 1e9
            warnings.append(
                f"{fit.field}: {fit.model} is taken for a {size:g}B model like {fit.architecture.like}, by its name"
            )
        if fit.fit and fit.fit.verdict in ("too big", "tight"):
            strength = "does not fit" if fit.fit.verdict == "too big" else "may run out of memory"
            problem = f": {fit.fit.problem}" if fit.fit.problem else ""
            fix = f"; {fit.fit.fix}" if fit.fit.fix else ""
            warnings.append(f"{fit.field} ({fit.role}): {fit.model} {strength}{problem}{fix}")
        self.forecast.warnings += [warning for warning in warnings if warning not in self.forecast.warnings]


def _part(params: SampleParams | CurateParams, questions: int) -> int:
    """Questions that a stage has to do with."""
    return max(1, math.ceil(round(params.subset.share * questions, 6))) if params.subset else questions


def _number(result: StageResult, name: str) -> int | None:
    value = result.metrics.get(name)
    return int(value) if isinstance(value, int | float) else None
