"""The pod of a stage: the runtime's template with the stage's container merged into it. Pure.

What the platform team wrote wins, but for what makes the pod a stage: its command, its labels and its spec.
"""

from collections.abc import Iterator
from typing import Any

from kubedistill_api.base import Model
from kubedistill_api.data import SecretKeyRef
from kubedistill_api.runtime import RoleSpec
from kubedistill_api.stage import StageParams
from kubedistill_operator.names import DIGEST_LABEL

Manifest = dict[str, Any]

CONTAINER = "stage"
SPEC_FOLDER = "/etc/kubedistill"
SPEC_PATH = f"{SPEC_FOLDER}/spec.json"
PVC_ROOT = "/mnt/pvc"
PORT = 8080
HOME = "/tmp/home"
USER = 1000
GRACE_S = 30
MASTER_PORT = 29400
GPU = "nvidia.com/gpu"
SHARED_MEMORY = "/dev/shm"


class BadTemplate(ValueError):
    """A runtime's pod template cannot carry a stage. The message names the field."""


def pod_template(
    role: RoleSpec,
    image: str | None,
    *,
    labels: dict[str, str],
    digest: str,
    config_map: str,
    key: str,
    claims: dict[str, bool],
    secrets: dict[str, SecretKeyRef],
    head: str | None,
    service: str | None,
    attempt: int,
    priority_class: str | None,
) -> Manifest:
    """A PodTemplateSpec. `claims` maps a claim's name to whether it is only read; `head` is the host name of index 0.

    Raises BadTemplate when no image is known.
    """
    template: Manifest = _without_nulls(role.template)
    metadata = template.setdefault("metadata", {})
    metadata["labels"] = {**metadata.get("labels", {}), **labels}
    metadata["annotations"] = {**metadata.get("annotations", {}), DIGEST_LABEL: digest}
    spec = template.setdefault("spec", {})
    spec.setdefault("automountServiceAccountToken", False)
    spec.setdefault("enableServiceLinks", False)
    spec.setdefault("terminationGracePeriodSeconds", GRACE_S)
    spec["restartPolicy"] = "Never"
    if service:
        spec["subdomain"] = service
    if priority_class:
        spec["priorityClassName"] = priority_class
    pod_security = {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec["securityContext"] = pod_security | spec.get("securityContext", {})
    container = _container(spec)
    if not container.get("image"):
        if not image:
            raise BadTemplate("the runtime names no image: set spec.image, or one in the role's template")
        container["image"] = image
    container.setdefault("command", ["python", "-m", "kubedistill_runtime.stages"])
    container["args"] = [SPEC_PATH]
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    container["securityContext"] = security | container.get("securityContext", {})
    container["terminationMessagePolicy"] = "File"
    ports = container.setdefault("ports", [])
    if not any(port.get("name") == "progress" for port in ports):
        ports.append({"name": "progress", "containerPort": PORT})
    _add(container.setdefault("env", []), _environment(attempt, head, secrets))
    if role.gpus_per_replica:
        resources = container.setdefault("resources", {})
        resources.setdefault("limits", {}).setdefault(GPU, str(role.gpus_per_replica))
    _mount(spec, container, config_map, key, claims)
    return template


def _without_nulls(value: Any) -> Any:
    """A copy without the fields that are null, which the API server takes as not given."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _container(spec: Manifest) -> Manifest:
    """The container that runs the stage: the one of that name, else the first, else a new one."""
    containers = spec.setdefault("containers", [])
    for container in containers:
        if container.get("name") == CONTAINER:
            return container  # type: ignore[no-any-return]
    if not containers:
        containers.append({})
    containers[0]["name"] = CONTAINER
    return containers[0]  # type: ignore[no-any-return]


def _environment(attempt: int, head: str | None, secrets: dict[str, SecretKeyRef]) -> list[Manifest]:
    env: list[Manifest] = [
        {"name": "KUBEDISTILL_ATTEMPT", "value": str(attempt)},
        {"name": "KUBEDISTILL_PORT", "value": str(PORT)},
        {"name": "KUBEDISTILL_PVC_ROOT", "value": PVC_ROOT},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "HOME", "value": HOME},
    ]
    if head:
        env += [{"name": "MASTER_ADDR", "value": head}, {"name": "MASTER_PORT", "value": str(MASTER_PORT)}]
    for name, ref in secrets.items():
        env.append({"name": name, "valueFrom": {"secretKeyRef": {"name": ref.name, "key": ref.key}}})
    return env


def _add(there: list[Manifest], more: list[Manifest]) -> None:
    """Adds what is not there by name."""
    names = {item["name"] for item in there}
    there.extend(item for item in more if item["name"] not in names)


def _mount(spec: Manifest, container: Manifest, config_map: str, key: str, claims: dict[str, bool]) -> None:
    volumes: list[Manifest] = [
        {"name": "kubedistill-spec", "configMap": {"name": config_map, "items": [{"key": key, "path": "spec.json"}]}},
        {"name": "kubedistill-tmp", "emptyDir": {}},
        {"name": "kubedistill-shm", "emptyDir": {"medium": "Memory"}},
    ]
    mounts: list[Manifest] = [
        {"name": "kubedistill-spec", "mountPath": SPEC_FOLDER, "readOnly": True},
        {"name": "kubedistill-tmp", "mountPath": "/tmp"},
        {"name": "kubedistill-shm", "mountPath": SHARED_MEMORY},
    ]
    for claim, read_only in sorted(claims.items()):
        name = f"pvc-{claim}"[:63].rstrip("-.")
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}})
        mounts.append({"name": name, "mountPath": f"{PVC_ROOT}/{claim}", "readOnly": read_only})
    _add(spec.setdefault("volumes", []), volumes)
    own = container.setdefault("volumeMounts", [])
    paths = {mount["mountPath"] for mount in own}
    own.extend(mount for mount in mounts if mount["mountPath"] not in paths)


def secret_refs(params: StageParams) -> dict[str, SecretKeyRef]:
    """The Secrets that a stage reads, by the name of the environment variable.

    Raises BadTemplate where two Secrets want the same variable.
    """
    found: dict[str, SecretKeyRef] = {}
    for ref in _refs(params):
        other = found.setdefault(ref.key, ref)
        if other.name != ref.name:
            raise BadTemplate(
                f"Secrets {other.name} and {ref.name} both have the key {ref.key}, which names the environment "
                "variable: rename one of the keys"
            )
    return found


def _refs(value: object) -> Iterator[SecretKeyRef]:
    if isinstance(value, SecretKeyRef):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _refs(item)
    elif isinstance(value, Model):
        for name in type(value).model_fields:
            yield from _refs(getattr(value, name))
