"""Manifest files: jobs, probes, studies and runtimes in YAML, read with every error at once."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel, ValidationError

from kubedistill_api.base import API_VERSION
from kubedistill_api.document import Document, documents
from kubedistill_api.explain import Schema, dotted, explain, nearest
from kubedistill_api.job import DistillationJob
from kubedistill_api.probe import TeacherProbe
from kubedistill_api.runtime import ClusterDistillationRuntime, DistillationRuntime, RuntimeSpec
from kubedistill_api.study import DistillationStudy

Resource = DistillationJob | TeacherProbe | DistillationStudy
Runtime = DistillationRuntime | ClusterDistillationRuntime
AnyResource = TypeVar("AnyResource", bound=Resource)

KINDS: dict[str, type[Resource | Runtime]] = {
    model.__name__: model for union in (Resource, Runtime) for model in get_args(union)
}
HEAD = f"apiVersion: {API_VERSION}"


@dataclass(frozen=True)
class FieldError:
    """One thing that is wrong in a manifest."""

    file: str
    line: int
    """From 1; 0 where the file as a whole is meant."""
    path: str
    """The field, as `spec.teacher.sampling.topP`; empty where a whole document is meant."""
    problem: str
    """What is wrong."""
    fix: str
    """What would be right; empty where the problem says it."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        what = f"{self.path}: {self.problem}" if self.path else self.problem
        return f"{where}: {what}" + (f"\n    {self.fix}" if self.fix else "")


class ManifestError(ValueError):
    """Everything that is wrong in a manifest, in the order of its lines."""

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = sorted(errors, key=lambda error: error.line)
        super().__init__("\n".join(map(str, self.errors)))


@dataclass(frozen=True)
class Manifest:
    """What a manifest holds, in the order of its documents."""

    resources: list[Resource] = field(default_factory=list)
    runtimes: list[Runtime] = field(default_factory=list)
    folder: Path | None = None
    """Where the file lies; relative paths in it start from here."""

    def runtime_of(self, resource: Resource) -> RuntimeSpec | None:
        """The runtime that a resource refers to, when this manifest has it."""
        ref = resource.spec.runtime_ref
        for runtime in self.runtimes:
            same_place = runtime.kind == "ClusterDistillationRuntime" or (
                runtime.metadata.namespace == resource.metadata.namespace
            )
            if ref and (runtime.kind, runtime.metadata.name) == (ref.kind, ref.name) and same_place:
                return runtime.spec
        return None

    def resolved(self) -> "Manifest":
        """The same with absolute file URIs."""
        folder = self.folder or Path.cwd()
        resources = [with_absolute_uris(resource, folder) for resource in self.resources]
        return Manifest(resources, self.runtimes, self.folder)


def load(source: Path | str) -> Manifest:
    """Reads a file (a Path) or YAML text (a str).

    Raises ManifestError with everything that is wrong: file, line, field, problem and fix.
    """
    if isinstance(source, str):
        return _load(source, "<text>", None)
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 (byte {error.start})"
        raise ManifestError([FieldError(str(source), 0, "", problem, "save the file as UTF-8")]) from None
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise ManifestError([FieldError(str(source), 0, "", problem, "give the path of a manifest file")]) from None
    return _load(text, str(source), source.resolve().parent)


def with_absolute_uris(resource: AnyResource, folder: Path) -> AnyResource:
    """The resource with paths relative to `folder` turned into `file:///...`; other URIs stay as they are."""
    data = resource.model_dump(mode="json", by_alias=True, exclude_unset=True)
    data["spec"] = _absolute(data["spec"], folder.resolve())
    return cast(AnyResource, type(resource).model_validate(data))


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_absolute(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _absolute_at(key, item, folder) for key, item in value.items()}


def _absolute_at(key: str, value: Any, folder: Path) -> Any:
    """A field's value; a study names fields by dotted paths, with a list of values for each in its grid."""
    if key.rpartition(".")[2] != "uri":
        return _absolute(value, folder)
    if isinstance(value, list):
        return [_absolute_at(key, item, folder) for item in value]
    return absolute_uri(value, folder) if isinstance(value, str) else _absolute(value, folder)


def absolute_uri(uri: str, folder: Path) -> str:
    """`file:///...` of a path or a `file://` URI, relative ones from `folder`; other schemes stay."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme != "file":
        return uri
    path = folder / Path(rest if separator else uri).expanduser()
    return "file://" + str(Path(*_without_dots(path.parts)))


def _without_dots(parts: tuple[str, ...]) -> list[str]:
    """Without `..`, but with symbolic links as they are: what the user sees is what is shown."""
    kept: list[str] = []
    for part in parts:
        if part == "..":
            del kept[max(1, len(kept) - 1) :]
        else:
            kept.append(part)
    return kept


def _load(text: str, file: str, folder: Path | None) -> Manifest:
    manifest = Manifest(folder=folder)
    errors: list[FieldError] = []
    first: dict[tuple[str, str, str], int] = {}
    found = documents(text)
    for document in found:
        errors += [FieldError(file, f.line, dotted(f.path), f.problem, f.fix) for f in document.flaws]
        if document.data is None:
            continue
        item, problems = _read(document, file)
        errors += problems
        if item is None:
            continue
        key = (item.kind, item.metadata.namespace, item.metadata.name)
        if key in first:
            problem = f"{item.kind} {item.metadata.name} is given twice, first on line {first[key]}"
            errors.append(FieldError(file, document.line_of(("metadata", "name")), "metadata.name", problem, "rename"))
        first.setdefault(key, document.line)
        if isinstance(item, Resource):
            manifest.resources.append(item)
        else:
            manifest.runtimes.append(item)
    if not found:
        errors.append(FieldError(file, 0, "", "no resource in it", f"start with '{HEAD}' and 'kind: DistillationJob'"))
    if errors:
        raise ManifestError(errors)
    return manifest


def _read(document: Document, file: str) -> tuple[Resource | Runtime | None, list[FieldError]]:
    """The resource of one document, or what is wrong with it."""
    data = document.data
    if not isinstance(data, dict):
        fix = f"start with '{HEAD}' and 'kind: DistillationJob'"
        return None, [FieldError(file, document.line, "", "a resource is a mapping of fields", fix)]
    errors = [FieldError(file, document.line_of((name,)), name, *what) for name, *what in _head_errors(data)]
    model = KINDS.get(str(data.get("kind")))
    if model is None:
        return None, errors
    # `kubectl get -o yaml` gives the status too; it is not the user's to write.
    wanted = {name: value for name, value in data.items() if name not in ("status", "apiVersion")}
    try:
        item = model.model_validate_json(json.dumps(wanted), strict=True, by_alias=True, by_name=False)
    except ValidationError as invalid:
        for error in invalid.errors():
            path, problem, fix = explain(error, wanted, _schema(model))
            errors.append(FieldError(file, document.line_of(path), dotted(path), problem, fix))
        return None, errors
    return item, errors


@cache
def _schema(model: type[BaseModel]) -> Schema:
    return Schema(model)


def _head_errors(data: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    version, kind = data.get("apiVersion"), data.get("kind")
    if version != API_VERSION:
        problem = "is missing" if version is None else f"'{version}' is not known"
        yield "apiVersion", problem, f"write {HEAD}"
    if kind not in KINDS:
        near = nearest(str(kind), list(KINDS))
        hint = f"did you mean {near[0]}? " if near else ""
        yield "kind", "is missing" if kind is None else f"'{kind}' is not known", f"{hint}kinds: {', '.join(KINDS)}"
