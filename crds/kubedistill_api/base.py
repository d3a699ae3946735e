"""What every model of the API shares.

Manifests are camelCase, Python is snake_case; pydantic translates. Unknown fields are errors, because a misspelt
field that is silently ignored costs a night of GPU time. Models are frozen: a spec never changes under a reader.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

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
