"""Container images made here, without a registry: OCI layouts as tar files."""

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SANDBOX = "localhost/kubedistill/sandbox:1"
HOST = "localhost/kubedistill/host:1"

USER = 1000
"""Who the pods run as."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ROOT_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
FOLDERS = ("dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "usr", "var", "var/tmp", "tmp")
ETC = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nstage:x:1000:1000:stage:/tmp/home:/bin/sh\n",
    "etc/group": "root:x:0:\nstage:x:1000:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
Layer = list[tuple[tarfile.TarInfo, bytes]]


def folder(path: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info, b""


def file(path: str, content: bytes, mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(content), mode
    return info, content


def link(path: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
    return info, b""


def sandbox_layer(busybox: Path) -> Layer:
    """A pod's first container, which only holds its network."""
    return [folder("bin"), file("bin/busybox", busybox.read_bytes(), 0o755)]


def host_layer() -> Layer:
    """The machine's own layout with nothing in it: its links in /, and empty folders to mount its own over."""
    layer = [folder(path, 0o1777 if path.endswith("tmp") else 0o755) for path in FOLDERS]
    layer += [file(path, text.encode()) for path, text in ETC.items()]
    layer += [link(name, str(Path("/", name).readlink())) for name in ROOT_LINKS if Path("/", name).is_symlink()]
    layer += [folder(name) for name in ROOT_LINKS if Path("/", name).is_dir() and not Path("/", name).is_symlink()]
    if (cache := Path("/etc/ld.so.cache")).is_file():
        layer.append(file("etc/ld.so.cache", cache.read_bytes()))
    # Debian's compilers are found through them.
    if (alternatives := Path("/etc/alternatives")).is_dir():
        layer.append(folder("etc/alternatives"))
        links = (path for path in sorted(alternatives.iterdir()) if path.is_symlink())
        layer += [link(f"etc/alternatives/{path.name}", str(path.readlink())) for path in links]
    return layer


def write(
    target: Path, name: str, layer: Layer, command: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> Path:
    """Write an image of one layer as an OCI layout that `ctr images import` reads."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    layer_tar = _tar(layer)
    variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})}
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Cmd": list(command), "Env": [f"{key}={value}" for key, value in variables.items()]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer_tar).hexdigest()}"]},
        "history": [{"created_by": "tests/cluster/images.py"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(_json(config), "config.v1+json"),
        "layers": [blob(gzip.compress(layer_tar, compresslevel=1, mtime=0), "layer.v1.tar+gzip")],
    }
    entry = blob(_json(manifest), "manifest.v1+json") | {"annotations": {"io.containerd.image.name": name}}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    layout = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index), **blobs}
    target.write_bytes(_tar([file(path, content) for path, content in layout.items()]))
    return target


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _tar(entries: Layer) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return buffer.getvalue()
