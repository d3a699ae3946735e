"""Renders the model card: README.md in the form of the Hugging Face hub."""

from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from kubedistill_runtime.report import wording
from kubedistill_runtime.report.contents import Report, Stage

HUB = "hf://"
TAGS = ["kubedistill", "distillation", "reasoning"]


def render(report: Report) -> str:
    """The card; the same contents give the same bytes."""
    environment = Environment(
        loader=PackageLoader("kubedistill_runtime", "report"),
        autoescape=False,  # Markdown; text from outside goes through `cell`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": wording.percent,
        "points": wording.points,
        "count": wording.count,
        "duration": wording.duration,
        "interval": wording.interval,
        "behind": wording.behind,
        "range": wording.ends,
        "cell": cell,
        "yaml": lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=True).strip(),
    }
    spec = report.manifest.get("spec", report.manifest)
    spec = spec.get("job", spec)  # of a study
    stages = {stage.role: stage for stage in report.stages}
    return environment.get_template("card.md").render(
        report=report,
        front_matter=front_matter(report),
        headline=wording.headline(report),
        caution=wording.caution_of(report),
        track=report.tracks[0] if report.tracks and not report.is_probe else None,
        ranking=wording.ranking(report),
        teacher=report.tracks[0].teacher if report.tracks else "",
        questions=[_described(source) for source in spec.get("questions", [])],
        decontamination=_parameter(stages.get("prepare"), "decontamination") or spec.get("decontamination", {}),
        training=_parameter(stages.get("train"), "training") or spec.get("training", {}),
        sampling=_parameter(stages.get("sample"), "sampling") or {},
        evaluation=_parameter(stages.get("evaluate"), "evaluation") or {},
        versions={name: version for s in report.stages for name, version in s.result.versions.items()},
    )


def front_matter(report: Report) -> str:
    """The card's metadata as the hub reads it. Models and data sets that are not on the hub are left out."""
    spec = report.manifest.get("spec", report.manifest)
    spec = spec.get("job", spec)
    data: dict[str, Any] = {"tags": TAGS}
    if not report.is_probe and not report.is_study:
        base = _hub_name(spec.get("student"))
        data = {"library_name": "transformers", "pipeline_tag": "text-generation"} | data
        if base:
            data |= {"base_model": base, "base_model_relation": "finetune"}
        if report.evaluated:
            data["model-index"] = [{"name": report.name, "results": _results(report, spec)}]
    datasets = [name for source in spec.get("questions", []) if (name := _hub_name(source))]
    if datasets:
        data["datasets"] = list(dict.fromkeys(datasets))
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).strip()


def cell(text: object) -> str:
    """Text from outside as Markdown that shows it as it is, in one line, also within a table."""
    plain = " ".join(str(text).split())
    for character in "\\`*_[]<>|#&":
        plain = plain.replace(character, f"\\{character}")
    return plain


def _hub_name(source: dict[str, Any] | None) -> str | None:
    uri = str((source or {}).get("uri", ""))
    return uri.removeprefix(HUB) if uri.startswith(HUB) else None


def _described(source: dict[str, Any]) -> str:
    """Where questions come from, as far as the manifest says it."""
    facts = [f"{name} {source[name]}" for name in ("subset", "split", "revision", "domain") if source.get(name)]
    return ", ".join([str(source.get("uri", "")), *facts])


def _results(report: Report, spec: dict[str, Any]) -> list[dict[str, Any]]:
    sources = {b.get("name"): b for b in spec.get("evaluation", {}).get("benchmarks", [])}
    return [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": b.name, "type": _hub_name(sources.get(b.name)) or b.name},
            "metrics": [
                {"type": s.metric, "name": s.metric, "value": round(100 * s.mean, 2)}
                for s in b.scores
                if s.model == "student"
            ],
        }
        for b in report.evaluated[0].benchmarks
    ]


def _parameter(stage: Stage | None, name: str) -> dict[str, Any] | None:
    return stage.parameters.get(name) if stage and stage.parameters else None
