"""From pydantic's errors to sentences that say where, what is wrong, and what would be right."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from kubedistill_api.document import Path

NAMES_SHOWN = 24
VALUE_SHOWN = 60
TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping of fields",
    "null": "nothing",
}
LABEL = re.compile(r"^\^\[a-z0-9\]\(\[-a-z0-9\]\*\[a-z0-9\]\)\?\$$")


class Schema:
    """JSON schema of a resource, asked by path."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._root: dict[str, Any] = model.model_json_schema(by_alias=True)

    def at(self, path: Path) -> dict[str, Any]:
        """Schema of a path; empty where there is none."""
        node = self._root
        for step in path:
            options = [option for option in self._options(node) if self._child(option, step) is not None]
            if not options:
                return {}
            node = self._child(options[0], step) or {}
        return node

    def resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        """The node itself, references followed and `or nothing` left out; its own description wins."""
        options = list(self._options(node))
        return {**options[0], **{k: v for k, v in node.items() if k in ("description", "default")}} if options else {}

    def fields(self, path: Path) -> dict[str, dict[str, Any]]:
        """Fields of the object at a path."""
        return {name: field for option in self._options(self.at(path)) for name, field in _properties(option).items()}

    def homes(self, name: str) -> list[Path]:
        """Every path below spec that ends in a field of this name."""
        return sorted(set(self._find(name, self._root["properties"].get("spec", {}), ("spec",))), key=len)

    def _find(self, name: str, node: dict[str, Any], path: Path) -> Iterator[Path]:
        for option in self._options(node):
            for field, child in _properties(option).items():
                if field == name:
                    yield (*path, field)
                yield from self._find(name, child, (*path, field))
            if isinstance(option.get("items"), dict):
                yield from self._find(name, option["items"], (*path, 0))

    def _options(self, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "$ref" in node:
            node = self._root["$defs"][node["$ref"].rpartition("/")[2]]
        choices = node.get("anyOf") or node.get("oneOf")
        if choices:
            for choice in choices:
                if choice.get("type") != "null":
                    yield from self._options(choice)
        else:
            yield node

    @staticmethod
    def _child(node: dict[str, Any], step: str | int) -> dict[str, Any] | None:
        if isinstance(step, int):
            child = node.get("items")
        else:
            child = _properties(node).get(step) or node.get("additionalProperties")
        return child if isinstance(child, dict) else None


def explain(error: ErrorDetails, data: Any, schema: Schema) -> tuple[Path, str, str]:
    """Path, problem and fix of one error of pydantic. `data` is what was validated."""
    path = _real_path(error, data)
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    node = schema.resolve(schema.at(path))
    if kind == "extra_forbidden":
        return path, "unknown field", _name_fix(path, schema)
    if kind == "missing":
        return path, "is missing", _missing_fix(path, node)
    if kind in ("literal_error", "enum"):
        allowed = [str(v) for v in node.get("enum", [node["const"]] if "const" in node else [])]
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return path, f"{_show(value)} is not allowed", f"{hint}allowed: {', '.join(allowed) or context.get('expected')}"
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return path, f"{_show(value)} is out of range", f"give a value {bounds(node)}"
    if kind in ("string_pattern_mismatch", "string_too_short", "string_too_long"):
        return path, f"{_show(value)} has the wrong form", _text_fix(str(value), node)
    if kind in ("too_short", "too_long"):
        length = context["actual_length"]
        return path, f"has {length} {'entry' if length == 1 else 'entries'}", f"give {_count(node)} entries"
    if kind == "value_error":
        problem, _, fix = str(context["error"]).partition("; ")
        return _spoken_of(path, problem, data), problem, fix
    if value is None:
        return path, "has no value", f"give {_wanted(node)}, or remove the line"
    if kind in ("int_from_float", "int_parsing", "float_parsing", "bool_parsing") or kind.endswith("_type"):
        return path, f"{_show(value)} is {_what(value)}", _type_fix(path, value, node, schema)
    return path, error["msg"][:1].lower() + error["msg"][1:], ""


def _properties(node: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    properties = node.get("properties", {})
    return properties if isinstance(properties, dict) else {}


def _real_path(error: ErrorDetails, data: Any) -> Path:
    """The location without the names of union members that pydantic puts in between."""
    path: list[str | int] = []
    location = error["loc"]
    for index, step in enumerate(location):
        in_list = isinstance(data, list) and isinstance(step, int) and step < len(data)
        if in_list or (isinstance(data, dict) and step in data):
            data = data[step]
        elif not (index == len(location) - 1 and error["type"] == "missing"):
            continue
        path.append(step)
    return tuple(path)


def _spoken_of(path: Path, message: str, data: Any) -> Path:
    """Validators of whole objects start their message with the field they mean."""
    found = path
    for step in path:
        data = data[step]
    for step in re.split(r"[\s:]", message, maxsplit=1)[0].split("."):
        if not isinstance(data, dict) or step not in data:
            return path
        data = data[step]
        found = (*found, step)
    return found


def nearest(name: str, names: list[str]) -> list[str]:
    """The names that were probably meant, best first: other spellings (`top_p`), then typing errors."""
    plain = {re.sub(r"[-_]", "", candidate).lower(): candidate for candidate in names}
    same = plain.get(re.sub(r"[-_]", "", name).lower())
    if same:
        return [same]
    return [plain[key] for key in difflib.get_close_matches(name.lower(), list(plain), n=3, cutoff=0.6)]


def dotted(path: Path) -> str:
    """`spec.questions[0].fields.prompt`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _name_fix(path: Path, schema: Schema) -> str:
    name, names = str(path[-1]), list(schema.fields(path[:-1]))
    near, homes = nearest(name, names), schema.homes(name)
    # A right name one level too high is more likely than a misspelt other name.
    below = [home for home in homes if home[: len(path) - 1] == path[:-1]]
    if below or (homes and not near):
        hint = f"there is {', '.join(dotted(home).replace('[0]', '[]') for home in (below or homes)[:3])}. "
    else:
        hint = f"did you mean {' or '.join(near)}? " if near else ""
    shown = sorted(names)[:NAMES_SHOWN]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{hint}fields here: {', '.join(shown)}{more}"


def _missing_fix(path: Path, node: dict[str, Any]) -> str:
    sentence = re.split(r"(?<=[.:])\s", node.get("description", ""), maxsplit=1)[0].rstrip(".:")
    return f"add {path[-1]}: {_wanted(node)}" + (f" ({sentence})" if sentence else "")


def _wanted(node: dict[str, Any]) -> str:
    if "enum" in node:
        return "one of " + ", ".join(map(str, node["enum"]))
    kind = node.get("type", "")
    if kind == "object" and node.get("required"):
        return f"a mapping with {', '.join(node['required'])}"
    return TYPES.get(kind, "a value")


def _type_fix(path: Path, value: Any, node: dict[str, Any], schema: Schema) -> str:
    kind = node.get("type")
    if kind == "string" and isinstance(value, bool | int | float):
        return f'quote it: "{str(value).lower() if isinstance(value, bool) else value}"'
    if kind in ("integer", "number", "boolean") and isinstance(value, str):
        inner = value.strip().lower()
        number = re.fullmatch(r"[-+]?\d+(\.\d+)?", inner)
        if number or (kind == "boolean" and inner in ("true", "false")):
            return f"remove the quotes: {inner}"
    if kind == "object":
        names = list(schema.fields(path))
        if isinstance(value, str) and "uri" in names:
            return f'write {path[-1]}: {{uri: "{value}"}}'
        return f"write fields below it: {', '.join(sorted(names)[:NAMES_SHOWN])}"
    if kind == "array" and isinstance(value, dict):
        return "start each entry with '- '"
    example = f", for example {node['default']}" if node.get("default") not in (None, "", [], {}) else ""
    limits = f" {bounds(node)}" if bounds(node) else ""
    return f"give {TYPES.get(str(kind), 'another value')}{limits}{example}"


def _text_fix(value: str, node: dict[str, Any]) -> str:
    if LABEL.match(node.get("pattern", "")):
        longest = node.get("maxLength", 63)
        slug = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:longest].strip("-")
        hint = f", for example {slug}" if slug else ""
        return f"use lower-case letters, digits and '-', at most {longest} characters{hint}"
    if "minLength" in node and not value:
        return "give at least one character"
    if len(value) > node.get("maxLength", len(value)):
        return f"use at most {node['maxLength']} characters (it has {len(value)})"
    if "https?" in node.get("pattern", ""):
        return "give an address that starts with http:// or https:// and has no spaces"
    if "://" in node.get("pattern", ""):
        return "give a path or SCHEME://NAME without spaces, for example hf://org/name, file:///data/q.jsonl"
    return f"it must match {node.get('pattern')}"


def bounds(node: dict[str, Any]) -> str:
    """`from 1 to 1024`, `above 0 and at most 1`; empty where nothing is said."""
    low, above = node.get("minimum"), node.get("exclusiveMinimum")
    high, below = node.get("maximum"), node.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"from {_number(low)} to {_number(high)}"
    parts = [
        f"{word} {_number(value)}"
        for word, value in (("of at least", low), ("above", above), ("at most", high), ("below", below))
        if value is not None
    ]
    return " and ".join(parts)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _count(node: dict[str, Any]) -> str:
    low, high = node.get("minItems"), node.get("maxItems")
    if low is not None and high is not None:
        return f"from {low} to {high}"
    return f"at least {low}" if low is not None else f"at most {high}"


def _what(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else "a number"


def _show(value: Any) -> str:
    text = f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= VALUE_SHOWN else text[: VALUE_SHOWN - 1] + "…"
