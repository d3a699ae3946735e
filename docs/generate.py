"""Writes docs/api.md from the models. `--check` fails when the file is not current."""

import argparse
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kubedistill_api.job import DistillationJob
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.runtime import ClusterDistillationRuntime, DistillationRuntime
from kubedistill_api.stage import StageResult, StageSpec
from kubedistill_api.study import DistillationStudy

PAGE = Path(__file__).with_name("api.md")
RESOURCES: tuple[type[BaseModel], ...] = (
    DistillationJob,
    TeacherProbe,
    DistillationStudy,
    DistillationRuntime,
    ClusterDistillationRuntime,
)
CONTRACT: tuple[type[BaseModel], ...] = (StageSpec, StageResult)


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema or "oneOf" in schema:
        options = [o for o in schema.get("anyOf") or schema["oneOf"] if o.get("type") != "null"]
        return " or ".join(_type(option) for option in options)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " · ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {_type(schema['additionalProperties'])}"
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return f"{kind} {', '.join(bounds)}".strip()


def _default(name: str, schema: dict[str, Any], required: list[str]) -> str:
    if name in required:
        return "**required**"
    default = schema.get("default")
    if default is None or isinstance(default, dict):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _description(schema: dict[str, Any], parts: dict[str, Any]) -> str:
    """Of a field; pydantic leaves it out where it equals the one of the model that the field refers to."""
    text = schema.get("description") or parts.get(schema.get("$ref", "").rsplit("/", 1)[-1], {}).get("description", "")
    return str(text).replace("\n", " ").replace("|", "\\|")


def _section(name: str, schema: dict[str, Any], parts: dict[str, Any]) -> list[str]:
    lines = [f"### {name}", "", schema.get("description", "").split("\n\n")[0].replace("\n", " "), ""]
    properties = schema.get("properties", {})
    if properties:
        lines += ["| field | type | default | |", "|---|---|---|---|"]
        required = schema.get("required", [])
        for field, body in properties.items():
            cells = (f"`{field}`", _type(body), _default(field, body, required), _description(body, parts))
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return lines


def page() -> str:
    """The whole reference as Markdown."""
    lines = [
        "# API reference",
        "",
        "Made by `make docs` from the models in `crds/kubedistill_api`. Group `kubedistill.io`, version `v1alpha1`.",
        "",
    ]
    done: set[str] = set()
    for title, models in (("Resources", RESOURCES), ("The stage contract", CONTRACT)):
        lines += [f"## {title}", ""]
        for model in models:
            schema = model.model_json_schema(by_alias=True)
            parts = {model.__name__: schema} | schema.get("$defs", {})
            for name, part in parts.items():
                if name not in done:
                    done.add(name)
                    lines += _section(name, part, parts)
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only")
    text = page()
    if parser.parse_args().check:
        if not PAGE.exists() or PAGE.read_text() != text:
            print(f"{PAGE} is not what the models say; run `make docs`", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
