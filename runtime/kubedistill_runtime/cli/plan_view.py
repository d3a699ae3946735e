"""How a forecast looks: tables for people, JSON for programs."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kubedistill_runtime.estimate import time as pace
from kubedistill_runtime.estimate import tokens as share
from kubedistill_runtime.estimate.benchmarks import BenchmarkForecast, Needed
from kubedistill_runtime.estimate.forecast import Forecast, ModelFit, StageForecast
from kubedistill_runtime.evaluate.precision import Spread

GIB = 2**30
NEEDS_SHOWN = 6
PIPE_WIDTH = 160
"""Columns where the output is no terminal."""
COLORS = {"fits": "green", "tight": "yellow", "too big": "bold red", "unknown": "dim"}
ASSUMPTIONS = (
    f"Estimates assume responses of {share.MEAN_SHARE:.0%} of maxTokens, {share.VERIFIED_SHARE:.0%} of the teacher's "
    f"correct, {share.SOLVED_SHARE:.0%} of questions solved, {share.HARD_SHARE:.0%} of those hard, "
    f"{pace.BANDWIDTH_SHARE:.0%} of memory bandwidth in decoding, {pace.TRAINING_SHARE:.0%} of peak FLOPs in training. "
    "Once a stage has run, what it measured is used instead."
)

WIDTHS = (
    f"± are half-widths of intervals in points, where {Spread().between:.0%} of the answers' variance is between "
    f"questions and the pass rates of the two models correlate by {Spread().alike:g}. At least: the difference's with "
    "any number of samples, when only the choice of questions is left. Trainings differ besides."
)
NOT_BY_SAMPLES = "none: no number of samples is enough, but so many questions with the samples there are."


def print_forecast(console: Console, forecast: Forecast, half_width: float | None = None) -> None:
    """Stages, memory, benchmarks, sums, warnings. `half_width`: the wanted one, in points."""
    kind, namespace, name = forecast.resource.split("/")
    console.print(f"[bold]{kind} {namespace}/{name}[/bold]")
    sizes = ", ".join(f"{where.removeprefix('spec.')} {c.value} ({c.basis})" for where, c in forecast.questions)
    console.print(f"questions: {sizes}", style="dim")
    console.print()
    console.print(_stages(forecast))
    console.print()
    console.print(_memory(forecast.fits))
    console.print()
    if forecast.benchmarks:
        console.print(_benchmarks(forecast.benchmarks, half_width))
        console.print(f"{WIDTHS} {NOT_BY_SAMPLES}" if half_width else WIDTHS, style="dim")
        console.print()
    for warning in forecast.warnings:
        console.print(Text.assemble(("! ", "yellow"), warning), soft_wrap=not console.is_terminal)
    if forecast.warnings:
        console.print()
    if text := endpoint_bill(forecast):
        console.print(text, soft_wrap=not console.is_terminal)
    console.print(_sum(forecast))
    console.print(ASSUMPTIONS, style="dim")
    console.print()


def _stages(forecast: Forecast) -> Table:
    table = heading_table("stage", "needs", "result", "on", "tokens", ">wall", ">GPU hours", ">cost")
    for number, stage in enumerate(forecast.stages):
        needs = "all before" if number > 2 and len(stage.needs) == number else _needs(stage.needs)
        duration = None if stage.reused else stage.duration
        table.add_row(
            stage.name,
            Text(needs, style="dim"),
            _result(stage),
            "endpoint" if stage.endpoint else f"{stage.gpus} x {stage.gpu}" if stage.gpus else "CPU",
            Text("done", style="dim") if stage.reused else _tokens(stage),
            "" if stage.reused else _wall(stage),
            f"{duration.gpu_seconds / 3600:.1f}" if duration else "",
            money(stage.cost) if stage.cost is not None and not stage.reused else "",
        )
    return table


def _wall(stage: StageForecast) -> str:
    if stage.duration:
        return human_time(stage.duration.wall_seconds)
    if stage.endpoint:
        return f"from {human_time(stage.limited_seconds)}" if stage.limited_seconds else "as it answers"
    return ""


def _needs(names: Sequence[str]) -> str:
    """The first ones, where there are many."""
    if len(names) <= NEEDS_SHOWN:
        return " ".join(names)
    return f"{' '.join(names[:3])} and {len(names) - 3} more"


def _result(stage: StageForecast) -> Text:
    if stage.reused:
        return Text("reused", style="green")
    return Text("if needed" if stage.maybe else stage.digest[:8], style="dim")


def _memory(fits: list[ModelFit]) -> Table:
    table = heading_table("role", "model", "size", "per GPU: needs", ">has", "verdict")
    for fit in fits:
        if fit.architecture is None or fit.fit is None:
            table.add_row(fit.role, f"{fit.what} {fit.model}", "?", "", "", Text("unknown", style="dim"))
            continue
        parts = " + ".join(f"{size / GIB:.1f} {name}" for name, size in fit.fit.parts.items())
        on_gpus = fit.role_spec.gpus > 0
        table.add_row(
            fit.role,
            f"{fit.what} {fit.model.removeprefix('hf://')}",
            human_count(fit.architecture.parameters) + ("?" if fit.architecture.source == "guess" else ""),
            f"{fit.fit.used / GIB:.0f} GiB = {parts}" if on_gpus else "",
            f"{fit.fit.available / GIB:.0f} GiB" if on_gpus else "",
            _verdict(fit),
        )
    return table


def _benchmarks(benchmarks: list[BenchmarkForecast], half_width: float | None) -> Table:
    headings = [">questions", ">samples", ">if it scores", ">score ±", ">difference ±", ">at least ±"]
    if half_width:
        headings += [f"samples for score ±{half_width:g}", f"for difference ±{half_width:g}"]
    table = heading_table("benchmark", "source", *headings)
    for found in benchmarks:
        table.add_row(
            found.name,
            Text(found.uri.removeprefix("hf://"), style="dim"),
            f"{found.questions.value}" + ("?" if found.questions.basis == "assumed" else ""),
            str(found.samples),
            f"{found.assumed:.0%}",
            *(f"{100 * width:.1f}" if width else "" for width in (found.score, found.difference, found.least)),
            *((_needed(found.for_score), _needed(found.for_difference)) if half_width else ()),
        )
    return table


def _needed(needed: Needed | None) -> Text:
    if needed is None:
        return Text()
    if needed.samples is None:
        return Text.assemble(("none", "yellow"), f"; {needed.questions:,} questions")
    return Text(f"{needed.samples:,}")


def _verdict(fit: ModelFit) -> Text:
    assert fit.fit is not None
    if fit.role_spec.gpus == 0:
        return Text("on the CPU, not checked", style="dim")
    text = Text(fit.fit.verdict, style=COLORS[fit.fit.verdict])
    if fit.fit.engines and fit.fit.concurrency and fit.fit.verdict != "too big":
        engines = f"{fit.fit.engines} engine{'s' if fit.fit.engines > 1 else ''}"
        text.append(f": {engines} x {fit.fit.concurrency:.0f} sequences of {fit.length} tokens", style="default")
    return text


def _tokens(stage: StageForecast) -> str:
    if stage.tokens is None:
        return ""
    if stage.tokens.training:
        measured = f", {human_count(stage.tokens.measured)} measured" if stage.tokens.measured else ""
        return f"{human_count(stage.tokens.training)} in {stage.tokens.steps} steps{measured}"
    drawn = human_count(stage.tokens.completion)
    return f"{drawn} in {human_count(stage.tokens.requests)} responses"


def _sum(forecast: Forecast) -> Text:
    todo = [stage for stage in forecast.stages if not stage.reused]
    text = Text(f"{len(todo)} of {len(forecast.stages)} stages to do", style="bold")
    if forecast.gpu_seconds:
        wall = sum(stage.duration.wall_seconds for stage in todo if stage.duration)
        text.append(f", about {forecast.gpu_seconds / 3600:.3g} GPU hours in {human_time(wall)}")
        maybe = sum(stage.duration.gpu_seconds for stage in todo if stage.duration and stage.maybe)
        if any(stage.endpoint for stage in todo):
            text.append(" (the endpoint's time not counted)")
        if maybe:
            text.append(f"; {maybe / 3600:.3g} of the GPU hours only if the rounds before decide nothing")
    if forecast.cost is not None:
        text.append(f", cost about {money(forecast.cost)}")
    if not forecast.fits_memory:
        text.append(" - does not fit into memory", style="bold red")
    return text


def endpoint_bill(forecast: Forecast) -> str:
    """The tokens that endpoints are to be asked for, and what their time depends on; empty without endpoints."""
    stages = [stage for stage in forecast.stages if stage.endpoint and stage.tokens and not stage.reused]
    if not stages:
        return ""
    prompt = human_count(sum(stage.tokens.prompt for stage in stages if stage.tokens))
    drawn = human_count(sum(stage.tokens.completion for stage in stages if stage.tokens))
    limited = any(stage.limited_seconds for stage in stages)
    pace = "its pace and its rate limits" + (", of which the manifest's are counted" if limited else "")
    return (
        f"endpoint: about {prompt} prompt tokens and {drawn} completion tokens, at its owner's price, which no cost "
        f"here includes; the time depends on {pace}"
    )


def heading_table(*headings: str) -> Table:
    """A table without lines; headings that start with > are of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for heading in headings:
        table.add_column(heading.lstrip(">"), justify="right" if heading.startswith(">") else "left", overflow="fold")
    return table


def human_count(number: float) -> str:
    """1234567 as 1.2M."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def money(amount: float) -> str:
    """In the currency of the runtime's price."""
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.2f}"


def human_time(seconds: float) -> str:
    """90000 as 25 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36000 else f"{seconds / 3600:.0f} h"


def as_data(forecast: Forecast) -> dict[str, Any]:
    """The forecast in JSON's types, camelCase as the API is."""
    return {
        "resource": forecast.resource,
        "questions": [{"field": w, "count": c.value, "basis": c.basis} for w, c in forecast.questions],
        "stages": [_stage_data(stage) for stage in forecast.stages],
        "memory": [_fit_data(fit) for fit in forecast.fits],
        "benchmarks": [_benchmark_data(found) for found in forecast.benchmarks],
        "gpuSeconds": forecast.gpu_seconds,
        "cost": forecast.cost,
        "fits": forecast.fits_memory,
        "warnings": forecast.warnings,
    }


def _stage_data(stage: StageForecast) -> dict[str, Any]:
    tokens, duration = stage.tokens, stage.duration
    return {
        "name": stage.name,
        "kind": stage.kind,
        "needs": list(stage.needs),
        "digest": stage.digest,
        "reused": stage.reused,
        "maybe": stage.maybe,
        "role": stage.role,
        "endpoint": stage.endpoint,
        "gpus": stage.gpus,
        "requests": tokens.requests if tokens else None,
        "promptTokens": tokens.prompt if tokens else None,
        "completionTokens": tokens.completion if tokens else None,
        "trainingTokens": tokens.training if tokens else None,
        "measuredTokens": tokens.measured if tokens else None,
        "steps": tokens.steps if tokens else None,
        "gpuSeconds": duration.gpu_seconds if duration else None,
        "wallSeconds": duration.wall_seconds if duration else None,
        "leastWallSeconds": stage.limited_seconds,
        "cost": stage.cost,
    }


def _benchmark_data(found: BenchmarkForecast) -> dict[str, Any]:
    return {
        "name": found.name,
        "preset": found.preset,
        "uri": found.uri,
        "questions": found.questions.value,
        "samples": found.samples,
        "assumedScore": found.assumed,
        "scoreHalfWidth": found.score,
        "differenceHalfWidth": found.difference,
        "leastDifferenceHalfWidth": found.least,
        "forScore": _needed_data(found.for_score),
        "forDifference": _needed_data(found.for_difference),
    }


def _needed_data(needed: Needed | None) -> dict[str, Any] | None:
    return {"samples": needed.samples, "questions": needed.questions} if needed else None


def _fit_data(fit: ModelFit) -> dict[str, Any]:
    found = fit.fit
    return {
        "role": fit.role,
        "field": fit.field,
        "model": fit.model,
        "parameters": fit.architecture.parameters if fit.architecture else None,
        "source": fit.architecture.source if fit.architecture else None,
        "verdict": found.verdict if found else "unknown",
        "neededBytes": found.parts if found else {},
        "availableBytes": found.available if found else None,
        "concurrency": found.concurrency if found else None,
        "engines": found.engines if found else None,
        "problem": found.problem if found else "",
        "fix": found.fix if found else "",
    }
