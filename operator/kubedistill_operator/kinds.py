"""The kinds of kubedistill's API that the operator serves or reads, each listed here alone."""

from collections.abc import Mapping
from typing import get_args

from kubedistill_api.graph import Resource

MODELS: Mapping[str, type[Resource]] = {model.__name__: model for model in get_args(Resource)}
"""What is reconciled."""
RESOURCES = tuple(MODELS)
RUNTIMES = ("DistillationRuntime", "ClusterDistillationRuntime")
PLURALS: Mapping[str, str] = {
    "DistillationJob": "distillationjobs",
    "TeacherProbe": "teacherprobes",
    "DistillationStudy": "distillationstudies",
    "DistillationRuntime": "distillationruntimes",
    "ClusterDistillationRuntime": "clusterdistillationruntimes",
}
"""Name of each kind in the API server's paths."""
