"""What every model of the API shares.

Manifests are camelCase, Python is snake_case; pydantic translates. Unknown fields are errors, because a misspelt
field that is silently ignored costs a night of GPU time. Models are frozen: a spec never changes under a reader.
"""

from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

GROUP = "kubedistill.io"
VERSION = "v1alpha1"
API_VERSION: Final[Literal["kubedistill.io/v1alpha1"]] = "kubedistill.io/v1alpha1"

URI_SCHEMES = ("file", "pvc", "s3", "gs", "hf", "embedded")

Uri = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2048, pattern=r"^([a-z][a-z0-9+.-]*://[^\s]+|[^\s:]+)$"),
]
"""Where something lies: `hf://org/name`, `pvc://claim/path`, `s3://bucket/key`, `gs://bucket/key`, `file:///path`,
`embedded://name` (shipped with kubedistill), or a path relative to the manifest."""

DnsLabel = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""An RFC 1123 label, as Kubernetes asks of names."""


class Rule(NamedTuple):
    """A check over several fields in the Common Expression Language, for the API server."""

    cel: str
    message: str


def later(default: Any, **constraints: Any) -> Any:
    """A field that an earlier version did not have: at its default it is left out of what is written.

    So the digests of stages, and with them the results of earlier versions, stay what they were.
    """
    return Field(default=default, exclude_if=lambda value: bool(value == default), **constraints)


class Model(BaseModel):
    """Base of every API model: camelCase on the wire, frozen, unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="null",
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """What the model's validators check, once more for the API server; a subclass adds to its parents' rules."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        rules = [rule for parent in reversed(cls.__mro__) for rule in parent.__dict__.get("rules", ())]
        if rules:
            own: dict[str, Any] = handler.resolve_ref_schema(schema)
            own["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.message} for rule in rules]
        return schema
