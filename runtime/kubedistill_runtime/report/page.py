"""Renders the report as one HTML file that needs nothing else, neither a server nor a network."""

import base64
import hashlib
import json
from importlib import resources
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kubedistill_api.status import Score
from kubedistill_runtime.report import charts, lineage, wording
from kubedistill_runtime.report.contents import Benchmark, Copied, Excerpt, Excerpts, Report, Track

MAX_LISTED_QUESTIONS = 500
LENGTH_STYLES = charts.LINE_STYLES


def render(report: Report) -> str:
    """The page; the same contents give the same bytes."""
    environment = Environment(
        loader=PackageLoader("kubedistill_runtime", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": wording.percent,
        "points": wording.points,
        "count": wording.count,
        "compact": wording.compact,
        "duration": wording.duration,
        "size": wording.size,
        "interval": wording.interval,
        "behind": wording.behind,
        "range": wording.ends,
        "number": _number,
        "yaml": _yaml,
    }
    style, script = _file("style.css"), _file("script.js")
    return environment.get_template("page.html").render(
        report=report,
        headline=wording.headline(report),
        caution=wording.caution_of(report),
        of_several=wording.of_several(report),
        covariates_caution=wording.covariates_caution(report),
        finding=wording.finding,
        sections=_sections(report),
        charts=charts,
        teachers=", ".join(dict.fromkeys(track.teacher for track in report.tracks if track.teacher)),
        scored=[(track, b) for track in report.evaluated for b in track.benchmarks],
        base_score=lambda row: _base_score(report, row),
        reach=_reach(report),
        ranking=wording.ranking(report),
        lengths=_lengths(report),
        loss=_loss(report),
        steps=[(track, _last(track)) for track in report.tracks if track.training],
        answer_lengths=_answer_lengths,
        listed=_listed,
        versions=_versions(report),
        cost=_cost(report),
        lineage=lineage.drawing(report.stages),
        excerpts=_embedded(report),
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _file(name: str) -> str:
    return resources.files("kubedistill_runtime.report").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """A source expression of a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _number(value: object) -> str:
    """A figure of any stage."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)


def _sections(report: Report) -> list[tuple[str, str]]:
    """Anchor and title of what there is to show."""
    tracks = report.tracks
    present = [
        ("candidates", "Candidates", report.is_probe and bool(tracks)),
        ("variants", "Variants", report.comparison is not None),
        ("scores", "Scores", bool(report.evaluated)),
        ("funnel", "From questions to corpus", any(track.funnel for track in tracks)),
        ("difficulty", "Difficulty for the student", report.pass_rates is not None),
        ("lengths", "Lengths", any(track.lengths or track.benchmarks for track in tracks)),
        ("training", "Training", any(track.training for track in tracks)),
        ("covariates", "The corpus to the student", bool(report.covariates)),
        ("traces", "Traces to read", report.traces is not None),
        ("answers", "Answers to read", report.answers is not None),
        ("cost", "Cost", True),
        ("lineage", "Lineage", True),
        ("manifest", "Manifest", True),
    ]
    return [(anchor, title) for anchor, title, there in present if there]


def _base_score(report: Report, row: Copied) -> Score | None:
    """Our own score of the model that a published one is of: only the student before training was asked."""
    benchmarks = [b for track in report.evaluated for b in track.benchmarks if b.name == row.benchmark]
    return benchmarks[0].score("base", benchmarks[0].metric) if benchmarks and row.who == "student" else None


def _reach(report: Report) -> float:
    """Half the width of the strips of differences: what holds all of them, in steps of 10 points."""
    ends = [abs(end) for track in report.evaluated for b in track.benchmarks for d in b.deltas for end in d.ci]
    return min(1.0, -(-max(ends, default=0.1) * 10 // 1) / 10 or 0.1)


def _lengths(report: Report) -> Markup | None:
    tracks = [track for track in report.tracks if track.lengths]
    if not tracks:
        return None
    if len(tracks) == 1 and tracks[0].lengths:
        found = tracks[0].lengths
        series = [charts.Series("all traces", "base", found.drawn), charts.Series("kept", "kept", found.kept)]
    else:
        series = [
            charts.Series(track.label, LENGTH_STYLES[at % len(LENGTH_STYLES)], track.lengths.drawn)
            for at, track in enumerate(tracks)
            if track.lengths
        ]
    return charts.histogram(series, "tokens", "traces")


def _answer_lengths(benchmark: Benchmark) -> Markup:
    series = [charts.Series(who, who, benchmark.tokens[who]) for who in ("base", "student") if who in benchmark.tokens]
    return charts.histogram(series, "tokens", "answers")


def _loss(report: Report) -> Markup | None:
    trained = [(track.label, track.training) for track in report.tracks if track.training]
    if not trained:
        return None
    return charts.loss([(label if len(trained) > 1 else "", training) for label, training in trained])


def _last(track: Track) -> dict[str, Any]:
    """The figures of a training."""
    rows = track.training.rows if track.training else ()
    seconds = sum(row.get("seconds") or 0 for row in rows)
    tokens = sum(row.get("tokens") or 0 for row in rows)
    return {
        "steps": len(rows),
        "epochs": rows[-1].get("epoch"),
        "training": track.training,
        "tokens": tokens,
        "rate": tokens / seconds if seconds else None,
    }


def _listed(benchmark: Benchmark) -> dict[str, Any]:
    """Questions of a benchmark, the most changed first."""
    ordered = sorted(benchmark.per_question, key=lambda q: (-(abs(q[2] - (q[1] or 0))), q[0]))
    return {"rows": ordered[:MAX_LISTED_QUESTIONS], "left_out": max(0, len(ordered) - MAX_LISTED_QUESTIONS)}


def _versions(report: Report) -> dict[str, str]:
    """Versions that all stages share, and those that differ, joined."""
    found: dict[str, dict[str, None]] = {}
    for stage in report.stages:
        for name, version in stage.result.versions.items():
            found.setdefault(name, {}).setdefault(version)
    return {name: ", ".join(versions) for name, versions in found.items()}


def _cost(report: Report) -> dict[str, float]:
    """Sums over the stages, and the longest of them."""
    usages = [stage.result.usage for stage in report.stages]
    names = ("gpu_seconds", "cpu_seconds", "prompt_tokens", "completion_tokens", "training_tokens")
    sums: dict[str, float] = {name: sum(getattr(usage, name) for usage in usages) for name in names}
    seconds = [stage.seconds for stage in report.stages]
    return sums | {"seconds": sum(seconds), "longest": max(seconds)}


def _embedded(report: Report) -> Markup:
    """The excerpts as JSON that can stand in a script element: no text of a model can end the element."""
    content = {"traces": _entries(report.traces), "answers": _entries(report.answers)}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _entries(excerpts: Excerpts | None) -> list[dict[str, Any]]:
    return [_entry(entry) for entry in excerpts.entries] if excerpts else []


def _entry(entry: Excerpt) -> dict[str, Any]:
    return {
        "group": entry.group,
        "id": entry.question_id,
        "question": entry.question,
        "gold": entry.gold,
        "facts": entry.facts,
        "note": entry.note,
        "responses": entry.responses,
    }
