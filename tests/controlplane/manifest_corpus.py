"""Manifests good and bad, made from the schemas: every field at its bounds, beyond them, and of a wrong type."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from kubedistill_api.base import API_VERSION
from kubedistill_api.crd import DEFINITIONS
from kubedistill_api.manifest import ManifestError, load

Manifest = dict[str, Any]
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Case:
    """One manifest, and what was done to it."""

    what: str
    manifest: Manifest

    def accepted(self) -> bool:
        """What the models say."""
        import json

        try:
            load(json.dumps(self.manifest))
        except ManifestError:
            return False
        return True


FULL_TEACHER = {
    "model": {"uri": "hf://org/teacher", "revision": "main", "tokenSecretRef": {"name": "hub", "key": "TOKEN"}},
    "sampling": {"samples": 16, "temperature": 0.6, "stopAfterVerified": 8, "maxTokens": 1024},
    "engine": {"maxModelLen": 4096, "maxNumSeqs": 64},
}
STUDENT = {"uri": "hf://org/student", "engine": {"maxModelLen": 65536}}
QUESTIONS = [{"uri": "hf://org/questions", "subset": "main", "revision": "abc", "limit": 5, "fields": {"id": "id"}}]
CURATION = {
    "quality": {"maxTokens": 512, "maxRepetition": 0.5},
    "difficulty": {"samples": 8, "maxPassRate": 0.5},
    "verification": {"judge": {"endpoint": {"url": "http://judge/v1", "model": "j", "requestsPerMinute": 5}}},
}
TRAINING = {"maxSteps": 5, "lora": {"rank": 8, "targetModules": ["q_proj"]}, "microBatchTokens": 16384}
EVALUATION = {"passAt": [1, 4], "benchmarks": [{"name": "aime", "uri": "hf://org/aime"}]}
PRESET = {"preset": "aime24"}
RUN = {
    "runtimeRef": {"name": "h100"},
    "priorityClassName": "high",
    "activeDeadlineSeconds": 60,
    "ttlSecondsAfterFinished": 60,
}
ROLE = {
    "template": {"spec": {"nodeSelector": {"a": "b"}}},
    "replicas": 2,
    "processesPerReplica": 2,
    "gpu": {"pricePerHour": 2.5},
    "activeDeadlineSeconds": 60,
}
BASES: dict[str, Manifest] = {
    "DistillationJob": {
        **RUN,
        "questions": QUESTIONS,
        "teacher": FULL_TEACHER,
        "student": STUDENT,
        "curation": CURATION,
        "training": TRAINING,
        "evaluation": EVALUATION,
        "output": {"uri": "pvc://models/out"},
    },
    "TeacherProbe": {
        **RUN,
        "questions": QUESTIONS,
        "candidates": [
            {"name": "a", "model": {"uri": "hf://org/a"}},
            {"name": "b", "endpoint": {"url": "http://b/v1", "model": "b", "tokensPerMinute": 7}},
        ],
        "student": STUDENT,
        "curation": CURATION,
        "training": TRAINING,
        "evaluation": EVALUATION,
    },
    # Whether overrides make a valid job is for the models alone to say, so none is wrong here.
    "DistillationStudy": {
        **RUN,
        "job": {
            "questions": QUESTIONS,
            "teacher": FULL_TEACHER,
            "student": STUDENT,
            "curation": CURATION,
            "training": TRAINING,
            "evaluation": EVALUATION,
        },
        "ladder": ["right"],
        "variants": [{"name": "a"}, {"name": "b", "overrides": {"training.epochs": 2}}],
        "grid": {"training.learningRate": [0.1]},
        "seeds": [0, 1],
        "reference": "right",
        "confidence": 0.9,
        "variantsPerEvaluation": 2,
    },
    "DistillationRuntime": {
        "image": "image",
        "sampler": ROLE,
        "storage": {"uri": "pvc://data/jobs"},
        "queueName": "queue",
        "limits": {
            "maxSamples": 64,
            "maxGpus": 8,
            "maxActiveDeadlineSeconds": 60,
            "maxParallelStages": 2,
            "maxStages": 8,
            "maxStagesPerNamespace": 4,
            "allowedModels": ["hf://org/*"],
            "allowedEndpointHosts": ["*.svc"],
        },
    },
    "ClusterDistillationRuntime": {
        "image": "image",
        "trainer": ROLE,
        "allowedNamespaces": {"names": ["team-a"], "matchLabels": {"a": "b"}},
    },
}


HARNESS = {"name": "arc", "harness": {"task": "arc_easy", "numFewshot": 3}}
DAY = "2025-01-01"
WINDOW = {"from": DAY}
DATED = {"name": "dated", "uri": "a", "fields": {"date": "day"}}
IN_FORM = {"preset": "livecodebench"}
LIVECODEBENCH = {"name": "code", "uri": "a", "format": "livecodebench", "domain": "code"}


def base(kind: str) -> Manifest:
    """A valid manifest with every kind of field in it."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "case"}, "spec": copy.deepcopy(BASES[kind])}


def cases() -> Iterator[Case]:
    """The whole corpus, the same every time."""
    for definition in DEFINITIONS:
        kind = definition.model.__name__
        yield Case(f"{kind}: as it is", base(kind))
        for path, schema in _fields(definition.model, base(kind)["spec"]):
            for what, value in _values(schema):
                yield Case(f"{kind}: {_dotted(path)} {what}", _with(kind, path, value))
            if len(path) > 1 or path[0] in ("teacher", "student", "questions", "candidates", "evaluation"):
                yield Case(f"{kind}: without {_dotted(path)}", _without(kind, path))
            if schema.get("properties") and isinstance(_at(base(kind)["spec"], path), dict):
                yield Case(f"{kind}: unknown field in {_dotted(path)}", _with(kind, (*path, "unknownField"), 1))
        for name in ("Upper", "a.b", "-a", "a" * 41, "a" * 40):
            manifest = base(kind)
            manifest["metadata"]["name"] = name
            yield Case(f"{kind}: metadata.name {name}", manifest)
    yield from _rules()


def _rules() -> Iterator[Case]:
    """What is checked over several fields: the edge, and one beyond."""
    job, probe, study = "DistillationJob", "TeacherProbe", "DistillationStudy"
    endpoint = {"url": "http://t/v1", "model": "t"}
    for what, path, value in (
        ("two teachers", ("teacher", "endpoint"), endpoint),
        ("three teachers", ("teacher",), {"model": {"uri": "a"}, "endpoint": endpoint, "probeRef": {"name": "p"}}),
        ("a probe as teacher", ("teacher",), {"probeRef": {"name": "p"}}),
        ("an endpoint as teacher", ("teacher",), {"endpoint": endpoint}),
        ("no teacher", ("teacher",), {}),
        ("stopAfterVerified = samples", ("teacher", "sampling", "stopAfterVerified"), 16),
        ("stopAfterVerified > samples", ("teacher", "sampling", "stopAfterVerified"), 17),
        ("greedy, many samples", ("teacher", "sampling", "temperature"), 0),
        ("greedy, one sample", ("teacher", "sampling"), {"temperature": 0, "samples": 1}),
        ("teacher's maxTokens = maxModelLen", ("teacher", "sampling", "maxTokens"), 4096),
        ("teacher's maxTokens < maxModelLen", ("teacher", "sampling", "maxTokens"), 4095),
        ("student's maxTokens = maxModelLen", ("evaluation", "maxTokens"), 65536),
        ("both difficulty rules", ("curation", "difficulty", "keepHardest"), 0.3),
        ("judge with tokensPerMinute", ("curation", "verification", "judge", "endpoint", "tokensPerMinute"), 5),
        ("microBatchTokens < contextLength", ("training", "microBatchTokens"), 16383),
        ("passAt = samples", ("evaluation", "passAt"), [16]),
        ("passAt > samples", ("evaluation", "passAt"), [1, 17]),
        ("benchmarks of the same name", ("evaluation", "benchmarks"), EVALUATION["benchmarks"] * 2),
        ("a preset alone", ("evaluation", "benchmarks"), [PRESET]),
        ("a preset and fields", ("evaluation", "benchmarks"), [{**PRESET, "fields": {"id": "id"}}]),
        ("two presets", ("evaluation", "benchmarks"), [PRESET, {"preset": "gsm8k"}]),
        ("a preset twice", ("evaluation", "benchmarks"), [PRESET, PRESET]),
        ("a preset by another's name", ("evaluation", "benchmarks"), [PRESET, {"name": "aime24", "uri": "a"}]),
        ("an unknown preset", ("evaluation", "benchmarks"), [{"preset": "aime23"}]),
        ("a harness task", ("evaluation", "benchmarks"), [HARNESS]),
        ("a harness task with examples", ("evaluation", "benchmarks"), [{**HARNESS, "uri": "a", "limit": 5}]),
        ("a harness task without a name", ("evaluation", "benchmarks"), [{"harness": {"task": "arc_easy"}}]),
        ("a harness task and a preset", ("evaluation", "benchmarks"), [{**HARNESS, **PRESET}]),
        ("a harness task with a domain", ("evaluation", "benchmarks"), [{**HARNESS, "domain": "choice"}]),
        ("a harness task with columns", ("evaluation", "benchmarks"), [{**HARNESS, "fields": {"prompt": "q"}}]),
        ("a harness task with a wrong field", ("evaluation", "benchmarks"), [{**HARNESS, "harness": {"name": "a"}}]),
        ("a window of a preset", ("evaluation", "benchmarks"), [{**IN_FORM, "window": WINDOW}]),
        ("a window of a preset without a date", ("evaluation", "benchmarks"), [{**PRESET, "window": WINDOW}]),
        ("a format of another preset", ("evaluation", "benchmarks"), [{**PRESET, "format": "livecodebench"}]),
        ("a format's preset and columns", ("evaluation", "benchmarks"), [{**IN_FORM, "fields": {"prompt": "q"}}]),
        ("a format's preset of another domain", ("evaluation", "benchmarks"), [{**IN_FORM, "domain": "math"}]),
        ("a window without a date", ("evaluation", "benchmarks"), [{"name": "a", "uri": "a", "window": WINDOW}]),
        ("a window with a date", ("evaluation", "benchmarks"), [{**DATED, "window": WINDOW}]),
        ("a window of one day", ("evaluation", "benchmarks"), [{**DATED, "window": {"from": DAY, "to": DAY}}]),
        ("a window backwards", ("evaluation", "benchmarks"), [{**DATED, "window": {**WINDOW, "to": "2024-12-31"}}]),
        ("a window without days", ("evaluation", "benchmarks"), [{**DATED, "window": {}}]),
        ("a window of no day", ("evaluation", "benchmarks"), [{**DATED, "window": {"from": "2025-13-01"}}]),
        ("a format and its domain", ("evaluation", "benchmarks"), [LIVECODEBENCH]),
        ("a format and columns", ("evaluation", "benchmarks"), [{**LIVECODEBENCH, "fields": {"prompt": "q"}}]),
        ("a format of another domain", ("evaluation", "benchmarks"), [{**LIVECODEBENCH, "domain": "math"}]),
        ("a preset without the question", ("evaluation", "benchmarks"), [{**PRESET, "promptTemplate": "a"}]),
        ("template without the question", ("questions", 0, "promptTemplate"), "answer this"),
        ("template with the question", ("questions", 0, "promptTemplate"), "Q: {question}"),
        ("no benchmarks", ("evaluation", "benchmarks"), []),
    ):
        yield Case(f"{job}: {what}", _with(job, path, value))
    for what, path, value in (
        ("one candidate", ("candidates",), BASES[probe]["candidates"][:1]),
        ("a draw for each of three seeds", ("procedure",), {"seeds": [1, 2, 3], "redraw": True}),
        ("a draw for each of two seeds", ("procedure",), {"seeds": [1, 2], "redraw": True}),
        ("candidates of the same name", ("candidates", 1, "name"), "a"),
        ("a candidate with two sources", ("candidates", 0, "endpoint"), endpoint),
        ("a candidate without a source", ("candidates", 0), {"name": "a"}),
        ("no benchmarks", ("evaluation", "benchmarks"), []),
    ):
        yield Case(f"{probe}: {what}", _with(probe, path, value))
    for what, seeds in (("three seeds", [0, 1, 2]), ("two seeds", [0, 1]), ("no seed", [])):
        manifest = _with(study, ("redraw",), True)
        manifest["spec"]["seeds"] = seeds
        yield Case(f"{study}: a draw for each of {what}", manifest)


def _fields(model: type[BaseModel], spec: Manifest) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Paths below spec with their schemas; into lists and objects as far as the base has them."""
    schema = model.model_json_schema(by_alias=True)
    parts = schema.get("$defs", {})

    def walk(node: dict[str, Any], value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
        node = _resolved(node, parts)
        if path:
            yield path, node
        for name, field in node.get("properties", {}).items():
            below = value.get(name) if isinstance(value, dict) else None
            yield from walk(field, below, (*path, name))
        if node.get("type") == "array" and isinstance(value, list) and value:
            yield from walk(node["items"], value[0], (*path, 0))

    yield from walk(schema["properties"]["spec"], spec, ())


def _resolved(node: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    while True:
        if "$ref" in node:
            node = parts[node["$ref"].rsplit("/", 1)[1]]
        elif "anyOf" in node:
            node = next(option for option in node["anyOf"] if option.get("type") != "null")
        else:
            return node


def _values(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values at the bounds, beyond them, and of wrong types."""
    kind = schema.get("type")
    if "enum" in schema:
        yield "each of its words", schema["enum"][-1]
        yield "another word", "no-such-word"
    if kind in ("integer", "number"):
        step = 1 if kind == "integer" else 0.001
        for bound, sign in (("minimum", -1), ("exclusiveMinimum", -1), ("maximum", 1), ("exclusiveMaximum", 1)):
            if bound in schema:
                yield f"at its {bound}", schema[bound]
                yield f"beyond its {bound}", schema[bound] + sign * step
        yield "as text", "5"
    if kind == "integer":
        yield "with a fraction", 1.5
    if kind == "string" and "enum" not in schema:
        yield "as a number", 5
        if "pattern" in schema:
            yield "with a space", "a b"
        if schema.get("minLength"):
            yield "empty", ""
        if "maxLength" in schema:
            yield "too long", "a" * (schema["maxLength"] + 1)
    if kind == "boolean":
        yield "true", True
        yield "as text", "true"
    if kind == "array":
        yield "as text", "a"
        if schema.get("minItems"):
            yield "empty", []
    if kind == "object":
        yield "as text", "a"
        yield "as a list", []


def _at(value: Any, path: Path) -> Any:
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _with(kind: str, path: Path, value: Any) -> Manifest:
    manifest = base(kind)
    node: Any = manifest["spec"]
    for step in path[:-1]:
        node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
    node[path[-1]] = value
    return manifest


def _without(kind: str, path: Path) -> Manifest:
    manifest = base(kind)
    parent = _at(manifest["spec"], path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1], None)
    elif isinstance(parent, list) and isinstance(path[-1], int) and path[-1] < len(parent):
        del parent[path[-1]]
    return manifest


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
