"""CustomResourceDefinitions from the models: `python -m kubedistill_api.crd [--check] FOLDER ...`.

The schemas are structural: references are resolved, an absent field and a null are the same unless null means
something, defaults are the models'. Rules over several fields come from `Model.rules`.
"""

import argparse
import copy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel

from kubedistill_api.base import GROUP, VERSION
from kubedistill_api.job import DistillationJob
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.runtime import ClusterDistillationRuntime, DistillationRuntime
from kubedistill_api.study import DistillationStudy

Schema = dict[str, Any]

MUTABLE = frozenset({"suspend", "ttlSecondsAfterFinished", "priorityClassName"})
"""Fields of a job's or a probe's spec that may change: they do not change what is made."""

LIST_KEYS = {"conditions": "type", "candidates": "name", "variants": "name"}
"""Lists whose items have a key of their own: the API server refuses two of the same, and merges by it. Not so the
stages of a status, which are written as a whole by one writer: to keep who owns which field of which stage costs the
API server a quarter of each write."""


PRESET_LISTS = frozenset({"benchmarks"})
"""Lists whose items may name a preset: what it fills in must not be taken by defaults before, so the API server knows
none there."""


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`."""

    name: str
    path: str
    type: Literal["string", "integer", "number", "date"] = "string"
    priority: int = 0
    """1: only with `-o wide`."""


@dataclass(frozen=True)
class Definition:
    """What a CRD says beside its schema."""

    model: type[BaseModel]
    plural: str
    short_names: tuple[str, ...]
    scope: Literal["Namespaced", "Cluster"]
    columns: tuple[Column, ...]
    runs: bool
    """It has a status, and its spec is fixed once it is there."""


AGE = Column("Age", ".metadata.creationTimestamp", "date")
RUN_COLUMNS = (
    Column("Phase", ".status.phase"),
    Column("Stage", ".status.summary.stage"),
    Column("Progress", ".status.summary.progress"),
    Column("Teacher", ".status.summary.teacher"),
    Column("Score", ".status.summary.score"),
    AGE,
    Column("Reason", ".status.summary.reason", priority=1),
)
PROBE_COLUMNS = (*RUN_COLUMNS[:5], Column("Outcome", ".status.outcome.outcome"), *RUN_COLUMNS[5:])
STUDY_COLUMNS = (
    *RUN_COLUMNS[:4],
    Column("Reference", ".spec.reference"),
    Column("Best", ".status.summary.score"),
    *RUN_COLUMNS[5:],
)
RUNTIME_COLUMNS = (
    Column("Sampler GPUs", ".spec.sampler.gpusPerReplica", "integer"),
    Column("Trainer GPUs", ".spec.trainer.gpusPerReplica", "integer"),
    Column("Storage", ".spec.storage.uri"),
    AGE,
)
DEFINITIONS = (
    Definition(DistillationJob, "distillationjobs", ("djob", "djobs"), "Namespaced", RUN_COLUMNS, True),
    Definition(TeacherProbe, "teacherprobes", ("tprobe", "tprobes"), "Namespaced", PROBE_COLUMNS, True),
    Definition(DistillationStudy, "distillationstudies", ("dstudy", "dstudies"), "Namespaced", STUDY_COLUMNS, True),
    Definition(DistillationRuntime, "distillationruntimes", ("druntime",), "Namespaced", RUNTIME_COLUMNS, False),
    Definition(
        ClusterDistillationRuntime, "clusterdistillationruntimes", ("cdruntime",), "Cluster", RUNTIME_COLUMNS, False
    ),
)


def crd(definition: Definition) -> dict[str, Any]:
    """One CustomResourceDefinition."""
    kind = definition.model.__name__
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [
            {"name": c.name, "type": c.type, "jsonPath": c.path} | ({"priority": c.priority} if c.priority else {})
            for c in definition.columns
        ],
        "schema": {"openAPIV3Schema": _resource(definition)},
    }
    if definition.runs:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{definition.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": definition.plural,
                "singular": kind.lower(),
                "shortNames": list(definition.short_names),
                "categories": ["kubedistill"],
            },
            "scope": definition.scope,
            "versions": [version],
        },
    }


def _resource(definition: Definition) -> Schema:
    schema = definition.model.model_json_schema(by_alias=True)
    parts = schema.pop("$defs", {})
    root = _structural(schema, parts, "")
    name = root["properties"]["metadata"]["properties"]["name"]
    # Of metadata a CRD may constrain the name alone; the rest is the API server's own.
    root["properties"]["metadata"] = {
        "type": "object",
        "properties": {"name": {key: name[key] for key in ("type", "maxLength", "pattern")}},
    }
    for field in ("apiVersion", "kind"):
        root["properties"][field] = {"type": "string"}
    root["required"] = ["spec"] if "spec" in root.get("required", ()) else []
    if definition.runs:
        root["properties"]["status"].pop("default", None)
        spec = root["properties"]["spec"]
        spec.setdefault("x-kubernetes-validations", []).extend(_immutable(spec))
    if not root["required"]:
        del root["required"]
    return root


def _immutable(spec: Schema) -> list[dict[str, str]]:
    """A transition rule for each field that must stay as it is."""
    rules = []
    for name, field in spec["properties"].items():
        if name in MUTABLE or not _is_seen_by_rules(field):
            continue
        always = name in spec.get("required", ()) or "default" in field
        rule = (
            f"self.{name} == oldSelf.{name}"
            if always
            else f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"
        )
        message = f"{name} cannot be changed; only {', '.join(sorted(MUTABLE))} can: create another resource"
        rules.append({"rule": rule, "message": message})
    return rules


def _is_seen_by_rules(field: Schema) -> bool:
    """Whether CEL knows the field: of values of any type it has no type, and a rule on them is refused."""
    for part in ("items", "additionalProperties"):
        if isinstance(field.get(part), dict):
            return _is_seen_by_rules(field[part])
    return "type" in field


def _structural(node: Schema, parts: Schema, name: str) -> Schema:
    """The node without references, titles and unions with null. `name` is the field's, for what depends on it."""
    node = dict(node)
    if "$ref" in node:
        node = {**copy.deepcopy(parts[node.pop("$ref").rsplit("/", 1)[1]]), **node}
    if "anyOf" in node:
        options = [option for option in node.pop("anyOf") if option.get("type") != "null"]
        if len(options) > 1:
            return _described({"x-kubernetes-preserve-unknown-fields": True}, node)
        # Null is a value of its own only where leaving the field out would mean another.
        if node.get("default") is not None:
            node["nullable"] = True
        return _structural({**options[0], **node}, parts, name)
    if "const" in node:
        node["enum"] = [node.pop("const")]
    out: Schema = {key: node[key] for key in _KEPT if key in node}
    if node.get("nullable"):
        out["nullable"] = True
    _bounds(node, out)
    if isinstance(node.get("description"), str):
        out["description"] = " ".join(node["description"].split())
    match node.get("type"):
        case "object":
            _object(node, out, parts)
        case "array":
            items = node["items"] if "items" in node else node["prefixItems"][0]
            out["items"] = _structural(items, parts, "")
            if name in PRESET_LISTS:
                _drop_defaults(out["items"])
            if name in LIST_KEYS and isinstance(out["items"].get("properties"), dict):
                out |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [LIST_KEYS[name]]}
        case "integer":
            out["format"] = "int64"
        case None if "enum" not in out:
            out["x-kubernetes-preserve-unknown-fields"] = True
    if node.get("default") is not None and "default" not in out:
        out["default"] = _without_nulls(node["default"])
    return out


_KEPT = (
    "type",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "x-kubernetes-validations",
)


def _bounds(node: Schema, out: Schema) -> None:
    """OpenAPI 3.0 says by a flag that a bound is exclusive; dates keep their format."""
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if exclusive in node:
            out[bound], out[exclusive] = node[exclusive], True
    if node.get("format") == "date-time":
        out["format"] = "date-time"


def _object(node: Schema, out: Schema, parts: Schema) -> None:
    if "properties" in node:
        out["properties"] = {name: _structural(field, parts, name) for name, field in node["properties"].items()}
        if node.get("required"):
            out["required"] = node["required"]
    elif isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(node["additionalProperties"], parts, "")
    else:
        out["x-kubernetes-preserve-unknown-fields"] = True


def _drop_defaults(schema: Schema) -> None:
    """In place, at any depth."""
    schema.pop("default", None)
    for field in schema.get("properties", {}).values():
        _drop_defaults(field)


def _without_nulls(value: Any) -> Any:
    """The API server checks a default as it stands, and a null is a field that is not there."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _described(out: Schema, node: Schema) -> Schema:
    if isinstance(node.get("description"), str):
        out["description"] = " ".join(node["description"].split())
    return out


class _Dumper(yaml.SafeDumper):
    """Quotes what other readers of YAML 1.1 take for a boolean."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "'" if value in ("y", "n", "Y", "N") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def files() -> dict[str, str]:
    """Name and text of every generated file."""
    head = "# Generated from the models by `make crds`; do not edit.\n"
    return {
        f"{d.plural}.yaml": head + yaml.dump(crd(d), Dumper=_Dumper, sort_keys=False, width=120) for d in DEFINITIONS
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="compare only; fail where a file is not current")
    arguments = parser.parse_args(argv)
    stale = []
    for path, text in ((folder / name, text) for folder in arguments.folders for name, text in files().items()):
        if not arguments.check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(str(path))
    if stale:
        print(f"not what the models say: {', '.join(stale)}; run `make crds`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
