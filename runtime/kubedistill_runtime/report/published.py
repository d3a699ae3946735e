"""What others measured on the same benchmarks of the same models: copied, shown apart, and part of no statistic."""

from collections.abc import Iterator
from typing import Any, Literal

from kubedistill_api.benchmarks import PRESETS, Published, preset_at
from kubedistill_api.data import Benchmark
from kubedistill_runtime.report.contents import Copied

HUB = "hf://"


def published(spec: dict[str, Any]) -> tuple[Copied, ...]:
    """Of the student before training and of the teachers, on the known benchmarks of a manifest's spec."""
    models = dict.fromkeys(_models(spec))
    return tuple(
        Copied(str(entry["name"]), who, found)
        for entry in (spec.get("evaluation") or {}).get("benchmarks", [])
        for who, model in models
        for found in _whole(entry)
        if found.model == model
    )


def _whole(entry: dict[str, Any]) -> Iterator[Published]:
    """What is published on a benchmark, unless only a part of it is asked."""
    split = entry.get("split") or Benchmark.model_fields["split"].default
    name = preset_at(str(entry.get("uri", "")), entry.get("subset"), split)
    if name and entry.get("limit") is None:
        yield from PRESETS[name].published


def _models(spec: dict[str, Any]) -> Iterator[tuple[Literal["student", "teacher"], str]]:
    """Who they are here, and what the hub calls them."""
    yield "student", _on_hub(spec.get("student"))
    for teacher in [spec.get("teacher"), *spec.get("candidates", [])]:
        if teacher:
            endpoint = (teacher.get("endpoint") or {}).get("model", "")
            yield "teacher", _on_hub(teacher.get("model")) or endpoint


def _on_hub(source: dict[str, Any] | None) -> str:
    uri = str((source or {}).get("uri", ""))
    return uri.removeprefix(HUB) if uri.startswith(HUB) else ""
