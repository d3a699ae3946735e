"""What a job came to: the funnel, the scores, the times, and where things lie."""

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from kubedistill_api.comparison import ArmResult, Comparison, points
from kubedistill_api.graph import Graph
from kubedistill_api.standings import last_decision
from kubedistill_api.status import CorpusStatus, JobStatus, Score, Standing
from kubedistill_runtime.cli.live import duration, elapsed, shown_path, stage_table
from kubedistill_runtime.local.process import last_lines
from kubedistill_runtime.local.workspace import Workspace

LOG_LINES = 20
STYLES = {"Complete": "bold green", "Failed": "bold red", "Suspended": "bold yellow"}
STEPS = ("questions", "sampled", "well_formed", "correct", "hard", "kept")


def print_summary(console: Console, name: str, status: JobStatus) -> None:
    """Everything that a person wants to know at the end."""
    for part in summary(name, status, fill=console.is_terminal):
        console.print(part, highlight=False)


def summary(name: str, status: JobStatus, *, fill: bool) -> Iterator[RenderableType]:
    style = STYLES.get(status.phase, "bold")
    yield f"[{style}]{escape(name)}: {status.phase}[/]{times(status)}"
    for condition in status.conditions:
        shown = condition.type in ("Failed", "Suspended") and condition.status == "True"
        if shown and condition.message:
            yield f"  {condition.reason}: {escape(condition.message)}"
    yield stage_table(status.stages, fill=fill)
    if status.corpus:
        yield f"\ncorpus    {funnel(status.corpus)}"
    if status.scores:
        yield ""
        yield score_table(status)
    if status.standings:
        yield ""
        yield standings_table(status)
        if status.outcome:
            yield f"[bold]{escape(status.outcome.reason)}[/]"
        if decision := last_decision(status):
            yield escape(decision.scope())
    if status.comparison:
        yield ""
        yield comparison_table(status.comparison)
        yield ""
        yield from (escape(sentence) for sentence in status.findings)
        yield ""
        yield from (escape(line) for line in fronts(status.comparison))
    if status.usage.completion_tokens or status.usage.training_tokens:
        drawn, trained = status.usage.completion_tokens, status.usage.training_tokens
        yield f"\ntokens    {drawn:,} drawn, {trained:,} trained on"
    if status.result:
        for label, uri in (("model", status.result.model_uri), ("report", status.result.report_uri)):
            if uri:
                yield f"{label:<9} {escape(shown_path(uri))}"


def times(status: JobStatus) -> str:
    """`, 2 min 10 s from start to end, 3 min 05 s in stages`; empty before the first start.

    The first is the clock's, pauses and waiting included; the second is the sum over the stages that this job ran,
    which may overlap.
    """
    if status.start_time is None:
        return ""
    end = status.completion_time
    wall = ((end or datetime.now(UTC)) - status.start_time).total_seconds()
    worked = sum(elapsed(stage) for stage in status.stages if stage.state == "Succeeded" and not stage.reused)
    inside = f", {duration(worked)} in stages" if worked else ""
    return f", {duration(wall)} {'from start to end' if end else 'since the start'}{inside}"


def funnel(corpus: CorpusStatus) -> str:
    """`questions 300 → sampled 2400 → ... → kept 321`."""
    return " → ".join(f"{step.replace('_', '-')} {getattr(corpus, step)}" for step in STEPS)


def score_table(status: JobStatus) -> Table:
    """Base and student side by side, in percent with their intervals."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("benchmark", "metric", "n", "base", "student", "difference"):
        table.add_column(heading, justify="left" if heading in ("benchmark", "metric") else "right", no_wrap=True)
    by_key: dict[tuple[str, str], dict[str, Score]] = {}
    for score in status.scores:
        by_key.setdefault((score.benchmark, score.metric), {})[score.model] = score
    deltas = {(delta.benchmark, delta.metric): delta for delta in status.deltas}
    for key, models in by_key.items():
        base, student, delta = models.get("base"), models.get("student"), deltas.get(key)
        table.add_row(
            *key,
            str(next(iter(models.values())).n),
            percent(base.mean, base.ci) if base else "",
            percent(student.mean, student.ci) if student else "",
            percent(delta.mean, delta.ci, "+") if delta else "",
        )
    return table


def standings_table(status: JobStatus) -> Table:
    """A probe's candidates, the best first, in percent with their intervals."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in (
        "candidate",
        ">student",
        ">behind",
        ">gain",
        ">own",
        ">tokens/trace",
        ">entropy",
        ">NLL",
        ">tokens",
        ">GPU h",
        "",
    ):
        table.add_column(heading.lstrip(">"), justify="right" if heading.startswith(">") else "left", no_wrap=True)
    for standing in status.standings:
        drawn = standing.usage.completion_tokens + standing.usage.training_tokens
        table.add_row(
            escape(standing.candidate),
            percent(standing.score, standing.ci) if standing.ci else f"{100 * standing.score:.1f}",
            percent(standing.behind, standing.behind_ci) if standing.behind is not None and standing.behind_ci else "",
            "" if standing.delta is None else f"{100 * standing.delta:+.1f}",
            "" if standing.teacher_accuracy is None else f"{100 * standing.teacher_accuracy:.1f}",
            "" if standing.trace_tokens is None else f"{standing.trace_tokens:.0f}",
            "" if standing.corpus_entropy is None else f"{standing.corpus_entropy:.3f}",
            "" if standing.corpus_nll is None else f"{standing.corpus_nll:.3f}",
            f"{drawn:,}" if drawn else "",
            f"{standing.usage.gpu_seconds / 3600:.2f}" if standing.usage.gpu_seconds else "",
            _place(standing, status),
        )
    return table


FINDINGS = {"better": "better", "worse": "worse", "unclear": "no difference seen", None: "reference"}


def comparison_table(comparison: Comparison) -> Table:
    """A study's variants in their order, in percent with their intervals."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    settings = any(arm.settings for arm in comparison.arms)
    names = ["variant", *(["settings"] if settings else []), ">score", ">difference", ""]
    for heading in (*names, ">questions", ">traces", ">steps", ">tokens trained", ">tokens/answer"):
        table.add_column(heading.lstrip(">"), justify="right" if heading.startswith(">") else "left", no_wrap=True)
    for arm in comparison.arms:
        table.add_row(
            escape(arm.arm),
            *([escape(arm.settings)] if settings else []),
            percent(arm.score, arm.ci),
            _difference(arm),
            FINDINGS[arm.finding],
            f"{arm.questions:,}",
            f"{arm.traces:,}",
            f"{arm.steps:,.0f}",
            f"{arm.training_tokens:,.0f}",
            f"{arm.response_tokens:,.1f}",
        )
    return table


def _difference(arm: ArmResult) -> str:
    if arm.difference is None or arm.difference_ci is None:
        return ""
    low, high = (points(end) for end in arm.difference_ci)
    return escape(f"{points(arm.difference)} [{low}, {high}]")


def fronts(comparison: Comparison) -> Iterator[str]:
    """What the table says of cost, and how its intervals are meant."""
    yield f"best for its training tokens: {', '.join(comparison.front_training)}"
    yield f"best for its answers' tokens: {', '.join(comparison.front_response)}"
    base = "" if comparison.base is None else f"the student before training: {100 * comparison.base:.1f}; "
    own = ", each on traces of its own" if comparison.draws > 1 else ""
    yield (
        f"{base}{comparison.benchmark_questions} questions x {comparison.samples} answers x {comparison.seeds} "
        f"trainings{own}; the intervals of the {comparison.comparisons} differences hold together at "
        f"{comparison.confidence:.0%}"
    )


def _place(standing: Standing, status: JobStatus) -> str:
    tied = status.outcome.tied if status.outcome else []
    if standing.candidate == status.winner:
        return "best estimate" if tied else "winner"
    if standing.candidate in tied:
        return "tied"
    if standing.left_round is None:
        return ""
    ended = status.outcome is not None and status.outcome.round == standing.left_round
    return "clearly behind" if ended else f"left after round {standing.left_round}"


def percent(mean: float, interval: tuple[float, float], sign: str = "") -> str:
    low, high = (f"{100 * end:.1f}" for end in interval)
    return escape(f"{100 * mean:{sign}.1f} [{low}, {high}]")


def print_failures(console: Console, graph: Graph, status: JobStatus, workspace: Workspace) -> None:
    """The end of the log of each stage that failed, and where the log is."""
    for stage in status.stages:
        if stage.state != "Failed":
            continue
        log = workspace.log(graph[stage.name], stage.attempt)
        lines = last_lines(log)[-LOG_LINES:]
        if lines:
            console.print(f"\n[bold]last lines of {escape(stage.name)}[/]", highlight=False)
            console.print("\n".join(f"  {line}" for line in lines), markup=False, highlight=False, soft_wrap=True)
        console.print(f"log       {shown_path(str(log))}", markup=False, highlight=False, soft_wrap=True)
