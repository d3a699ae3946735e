"""What the pod template of a namespace's own runtime may not have: whatever reaches beyond the pod. Pure.

The fields are those of the `baseline` Pod Security level, which the restricted defaults of a stage's pod would let a
template override, and `nodeName`. A ClusterDistillationRuntime may have them: the platform team writes it.
"""

from collections.abc import Iterator
from typing import Any

from kubedistill_api.runtime import RuntimeSpec

ROLES = ("sampler", "trainer", "evaluator", "worker")
POD_FLAGS = ("hostNetwork", "hostPID", "hostIPC")
CONTAINER_FLAGS = ("privileged", "allowPrivilegeEscalation")
CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")


def forbidden(runtime: RuntimeSpec) -> list[str]:
    """The paths of everything that a DistillationRuntime may not have: `sampler.template.spec.hostNetwork`."""
    return [f"{role}.template.spec.{path}" for role in ROLES for path in _pod(_spec(getattr(runtime, role).template))]


def _spec(template: dict[str, Any]) -> dict[str, Any]:
    return _map(template.get("spec"))


def _pod(pod: dict[str, Any]) -> Iterator[str]:
    yield from (flag for flag in POD_FLAGS if pod.get(flag))
    if pod.get("nodeName"):
        yield "nodeName"
    for number, volume in enumerate(_list(pod.get("volumes"))):
        if "hostPath" in volume:
            yield f"volumes[{number}].hostPath"
    security = _map(pod.get("securityContext"))
    if security.get("sysctls"):
        yield "securityContext.sysctls"
    if _map(security.get("windowsOptions")).get("hostProcess"):
        yield "securityContext.windowsOptions.hostProcess"
    for name in CONTAINER_LISTS:
        for number, container in enumerate(_list(pod.get(name))):
            yield from (f"{name}[{number}].{path}" for path in _container(container))


def _container(container: dict[str, Any]) -> Iterator[str]:
    security = _map(container.get("securityContext"))
    yield from (f"securityContext.{flag}" for flag in CONTAINER_FLAGS if security.get(flag))
    if _map(security.get("capabilities")).get("add"):
        yield "securityContext.capabilities.add"
    if security.get("procMount") not in (None, "Default"):
        yield "securityContext.procMount"
    if _map(security.get("windowsOptions")).get("hostProcess"):
        yield "securityContext.windowsOptions.hostProcess"
    for number, port in enumerate(_list(container.get("ports"))):
        if port.get("hostPort"):
            yield f"ports[{number}].hostPort"


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
