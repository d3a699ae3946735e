"""A runtime whose pods use this machine's own Python: its system libraries, environment and project, read-only.

The folders come in through a claim, which the `restricted` level allows where it refuses hostPath volumes.
"""

import sys
from pathlib import Path
from typing import Any

from tests.cluster import images

Manifest = dict[str, Any]

PROJECT = Path(__file__).parents[2]
HOST_CLAIM = "host"
STORAGE_CLAIM = "storage"
STORAGE = f"pvc://{STORAGE_CLAIM}/kubedistill"


def folders() -> list[Path]:
    """Folders of this machine that a pod needs to run the project, outermost only."""
    system = [Path("/usr"), *(Path("/", name) for name in images.ROOT_LINKS)]
    python = [Path(sys.base_prefix), Path(sys.executable).resolve().parents[1], Path(sys.prefix)]
    wanted = [path for path in system if path.is_dir() and not path.is_symlink()]
    wanted += [*python, *(path.resolve() for path in python), PROJECT]
    outermost: list[Path] = []
    for path in sorted(set(wanted), key=lambda path: len(path.parts)):
        if not any(path.is_relative_to(other) for other in outermost):
            outermost.append(path)
    return outermost


def pod_template(**pod: Any) -> Manifest:
    """A pod template with the container `stage` in which `python` is this one. `pod`: more of the pod's spec."""
    path = f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    container = {
        "name": "stage",
        "image": images.HOST,
        "imagePullPolicy": "Never",
        "env": [{"name": "PATH", "value": path}, {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}],
        "volumeMounts": [
            {"name": "host", "mountPath": str(path), "subPath": str(path)[1:], "readOnly": True} for path in folders()
        ],
    }
    volume = {"name": "host", "persistentVolumeClaim": {"claimName": HOST_CLAIM, "readOnly": True}}
    return {"spec": {"volumes": [volume], "containers": [container], **pod}}


def host_runtime(name: str = "host", **roles: Manifest) -> Manifest:
    """A ClusterDistillationRuntime for namespaces made with `Node.add_tenant`.

    `roles`: more of a role's fields, such as `sampler={"replicas": 2}`.
    """
    names = ("sampler", "trainer", "evaluator", "worker")
    return {
        "apiVersion": "kubedistill.io/v1alpha1",
        "kind": "ClusterDistillationRuntime",
        "metadata": {"name": name},
        "spec": {
            **{role: {"template": pod_template(), **roles.get(role, {})} for role in names},
            "storage": {"uri": STORAGE},
        },
    }


def tenant(namespace: str, level: str, storage: Path) -> list[Manifest]:
    """A namespace, and its claims: `host`, this machine's folders, and `storage`, the folder `storage` of it."""
    labels = {"pod-security.kubernetes.io/enforce": level}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        *claim(namespace, HOST_CLAIM, Path("/"), "ReadOnlyMany"),
        *claim(namespace, STORAGE_CLAIM, storage, "ReadWriteMany"),
    ]


def claim(namespace: str, name: str, path: Path, mode: str) -> list[Manifest]:
    """A claim and the one volume that it is bound to."""
    size = "100Gi"
    volume_name = f"{namespace}-{name}"
    volume = {
        "capacity": {"storage": size},
        "accessModes": [mode],
        "hostPath": {"path": str(path), "type": "Directory"},
        "claimRef": {"namespace": namespace, "name": name},
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
    }
    claim = {
        "accessModes": [mode],
        "storageClassName": "",
        "volumeName": volume_name,
        "resources": {"requests": {"storage": size}},
    }
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume_name}, "spec": volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": claim,
        },
    ]
