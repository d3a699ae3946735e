"""YAML text as data that remembers its lines.

Kubernetes turns YAML into JSON before it looks at it, and so does this: only JSON's types, keys are strings, dates stay
text, `1e-5` is a number. Duplicate keys are errors, where YAML libraries silently keep the last.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]

JSON_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge")}
NUMBER = re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")
MAX_NODES = 200_000
"""Nodes of one document, aliases written out; a few lines of nested aliases can stand for gigabytes."""
MAX_DEPTH = 64
"""An alias may even contain itself."""


class _Loader(yaml.SafeLoader):
    """SafeLoader without dates and with all of JSON's numbers."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# Plain numbers with an exponent: YAML 1.1 takes 1e-5 for text, Kubernetes does not.
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+0123456789."))


@dataclass(frozen=True)
class Flaw:
    """Something wrong with the YAML itself."""

    line: int
    path: Path
    problem: str
    fix: str
    fatal: bool = True
    """The document has no content that could be looked at besides."""


@dataclass
class Document:
    """One document of a YAML file."""

    line: int
    """Line of its first node, from 1."""
    data: Any = None
    """Its content in JSON's types; None where the YAML is broken."""
    lines: dict[Path, int] = field(default_factory=dict)
    """Line of each key and item, from 1."""
    flaws: list[Flaw] = field(default_factory=list)

    def line_of(self, path: Path) -> int:
        """Line of a path, or of its nearest parent that is written down."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, self.line)


def documents(text: str) -> list[Document]:
    """The documents of a YAML text, empty ones left out. What cannot be read is a document with flaws only."""
    found: list[Document] = []
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node said that there is one
            document = Document(line=node.start_mark.line + 1)
            found.append(document)
            document.flaws += _flaws(node)
            if not any(flaw.fatal for flaw in document.flaws):
                document.data = _plain(loader.construct_document(node))
                _note_lines(node, document)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = repr(error.character) if isinstance(error.character, str) else f"#x{error.character:02x}"
        flaw = Flaw(line, (), f"character {character} is not allowed in YAML", "remove it, or save the file as UTF-8")
        found.append(Document(line=line, flaws=[flaw]))
    except yaml.MarkedYAMLError as error:
        found.append(_unreadable(error))
    except RecursionError:
        found.append(
            Document(line=1, flaws=[Flaw(1, (), "nested too deeply", "no manifest is that deep: look for '[['")])
        )
    finally:
        if loader is not None:
            loader.dispose()
    return [document for document in found if document.data is not None or document.flaws]


def _unreadable(error: yaml.MarkedYAMLError) -> Document:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = error.problem or "cannot be read"
    if "cannot start any token" in problem and "\\t" in problem:
        fix = "indent with spaces, not with tabs"
    elif "mapping values are not allowed" in problem:
        fix = "quote the value that contains ': ', or correct the indentation"
    elif "expected" in problem or "end of stream" in problem:
        fix = "correct the indentation, or add the bracket, quote or colon that is missing on this line or above"
    elif "undefined alias" in problem:
        fix = "quote values that start with *"
    else:
        fix = "correct the YAML here; quote values with special characters"
    return Document(line=line, flaws=[Flaw(line, (), f"not YAML: {problem} (column {column})", fix)])


def _flaws(root: yaml.Node) -> list[Flaw]:
    found: list[Flaw] = []
    for path, node in _walk(root):
        if node is None:
            line = root.start_mark.line + 1
            return [Flaw(line, (), "too much: aliases make this document huge", "write it without nested aliases")]
        line = node.start_mark.line + 1
        if node.tag not in JSON_TAGS:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            found.append(Flaw(line, path, f"{tag} is not a type of manifests", "remove the tag, or quote the value"))
        if isinstance(node, yaml.MappingNode):
            found += _duplicates(node, path)
    return found


def _duplicates(node: yaml.MappingNode, path: Path) -> Iterator[Flaw]:
    first: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            shown = key.value if isinstance(key, yaml.ScalarNode) else "..."
            yield Flaw(line, path, f"the key {shown} is not text", f'quote it: "{shown}"')
            continue
        if key.value in first:
            earlier = first[key.value]
            yield Flaw(
                line, (*path, key.value), f"given twice, first on line {earlier}", "remove one of the two", False
            )
        first.setdefault(key.value, line)


def _walk(root: yaml.Node) -> Iterator[tuple[Path, yaml.Node | None]]:
    """Every node with its path; ends with None where there are too many."""
    stack: list[tuple[Path, yaml.Node]] = [((), root)]
    seen = 0
    while stack:
        path, node = stack.pop()
        seen += 1
        if seen > MAX_NODES or len(path) > MAX_DEPTH:
            yield path, None
            return
        yield path, node
        if isinstance(node, yaml.MappingNode):
            stack += [((*path, str(key.value)), value) for key, value in reversed(node.value)]
        elif isinstance(node, yaml.SequenceNode):
            stack += [((*path, index), value) for index, value in reversed(list(enumerate(node.value)))]


def _note_lines(root: yaml.Node, document: Document) -> None:
    for at, node in _walk(root):
        if isinstance(node, yaml.MappingNode):
            for key, _ in node.value:
                document.lines[(*at, str(key.value))] = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                document.lines[(*at, index)] = item.start_mark.line + 1


def _plain(value: Any) -> Any:
    """JSON has one kind of number: 1.0 and 1e4 are good integers."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
