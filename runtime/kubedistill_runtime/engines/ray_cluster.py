"""The Ray cluster that a stage uses: the one at RAY_ADDRESS, or one of its own on this machine or over its pods."""

import contextlib
import logging
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from kubedistill_runtime.engines import leash
from kubedistill_runtime.errors import TryAgain
from kubedistill_runtime.verify.pool import usable_cores

OBJECT_STORE_BYTES = 128 * 2**20
"""Requests and responses are small and go by value; the store only has to exist. Ray would take 30 % of the memory."""

RAY_PORT = int(os.environ.get("RAY_GCS_SERVER_PORT", 6379))
"""Of the head, where a stage has several pods."""
START_S = 300
"""How long Ray's processes may take to start."""
STARTS = 5
PAUSE_S = 20.0
POLL_S = 0.2
POD_RESOURCE = "kubedistill_pod"
"""Each pod of a stage has one. An engine on the CPU takes it, and so waits for a pod of its own."""

FOLDERS = Path("/tmp")
PREFIX = "kd-ray-"

SETTINGS = {
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray runs its workers at a nice value of 15: what else runs on the machine would take the engine's time.
    "RAY_worker_niceness": "0",
    # An actor without GPUs sees none, instead of all.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_agent_register_timeout_ms": str(START_S * 1000),
    "RAY_gcs_server_port_wait_time_s": str(START_S),
}


@contextlib.contextmanager
def ray_cluster(num_cpus: int | None = None) -> Iterator[None]:
    """Ray, initialised. A cluster of its own ends with the context, and at once when the driver is killed.

    An initialised Ray is used as it is, and left so. Raises TryAgain when RAY_ADDRESS does not answer, or a cluster of
    its own does not start.
    """
    _set_up(None if "RAY_ADDRESS" in os.environ else secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        yield
    elif "RAY_ADDRESS" in os.environ:
        try:
            _init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ray.exceptions.RayError) as error:
            raise TryAgain(f"RAY_ADDRESS {os.environ['RAY_ADDRESS']}: no Ray cluster answers: {error}") from error
        try:
            yield
        finally:
            ray.shutdown()
    else:
        with _own_cluster(num_cpus=num_cpus or usable_cores()):
            yield


@contextlib.contextmanager
def ray_head(ip: str, token_file: Path) -> Iterator[None]:
    """Ray, initialised, with its head here at `ip`:6379 for the stage's other pods, which find the token in a file.

    Raises TryAgain when it does not start.
    """
    token = secrets.token_hex(32)
    _set_up(token)
    os.environ["RAY_GCS_SERVER_PORT"] = str(RAY_PORT)
    _publish(token_file, token)
    try:
        with _own_cluster(num_cpus=usable_cores(), resources={POD_RESOURCE: 1}, _node_ip_address=ip):
            yield
    finally:
        token_file.unlink(missing_ok=True)


def _publish(path: Path, token: str) -> None:
    """Readable by the stage's group. Written before the head listens, so that who finds it listening finds this one."""
    for old in path.parent.glob(f"{path.name.rstrip('0123456789')}*"):
        old.unlink(missing_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.touch(0o600)
    new.chmod(0o640)
    new.write_text(token)
    new.replace(path)


def _set_up(token: str | None) -> None:
    """What Ray reads from the environment when it is imported."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if token and "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ["RAY_AUTH_TOKEN"] = token


def _init(**options: Any) -> None:
    """`ray.init`, which would end the driver at SIGTERM in a way of its own."""
    import ray

    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _sweep() -> None:
    """Removes what drivers left that were killed together with their leash."""
    for folder in FOLDERS.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _own_cluster(**options: Any) -> Iterator[None]:
    _sweep()
    with contextlib.ExitStack() as stack:
        for left in range(STARTS - 1, -1, -1):
            try:
                stack.enter_context(_started(options))
                break
            except TryAgain as error:
                if not left:
                    raise
                print(f"{error}; it is started once more", file=sys.stderr, flush=True)
                # Pods that started together, and were too many for the machine, should not do so again.
                time.sleep(random.uniform(0, PAUSE_S))
        yield


@contextlib.contextmanager
def _started(options: dict[str, Any]) -> Iterator[None]:
    import ray

    # A short path: the names of Unix sockets below it may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=FOLDERS))
    # The leash is in a session of its own, so that what kills this process group leaves it to do its work.
    watch = subprocess.Popen(
        [sys.executable, "-I", leash.__file__, str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _start(folder, options)
    except BaseException:
        # Of a start that failed, Ray leaves the processes that it had started: the leash ends them.
        ray.shutdown()
        watch.communicate()
        raise
    try:
        yield
    finally:
        ray.shutdown()
        watch.communicate(b"done")


@contextlib.contextmanager
def _on_a_busy_machine() -> Iterator[None]:
    """Makes Ray start with what a stage needs, and wait for it while there is something to wait for.

    Ray's node ends when one of its Python processes takes 15 s to come up, and `ray.init` gives up after 30 s; neither
    can be set. Several pods that start on a few cores take longer. So the autoscaler, the log monitor and the server of
    the dashboard, which nobody asks here, are not started beside it, and it is waited for as long as the node lives.
    """
    from ray._private import node, parameter, services

    get_node, parameters = services.get_node, parameter.RayParams

    def get_node_in_time(*arguments: Any) -> Any:
        end = time.monotonic() + START_S
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:  # not registered yet
                if time.monotonic() > end:
                    raise
            if not _has_node():
                raise ConnectionError("its node ended while it started")
            time.sleep(POLL_S)

    def lean(**given: Any) -> Any:
        return parameters(**{**given, "no_monitor": True, "include_log_monitor": False})

    with (
        mock.patch.object(services, "get_node", get_node_in_time),
        mock.patch.object(parameter, "RayParams", lean),
        mock.patch.object(node.Node, "start_api_server"),
    ):
        yield


def _has_node() -> bool:
    """Whether this process has a raylet that lives."""
    children = psutil.Process().children()
    return any(child.name() == "raylet" and child.status() != psutil.STATUS_ZOMBIE for child in children)


def _start(folder: Path, options: dict[str, Any]) -> None:
    try:
        with _on_a_busy_machine():
            _init(
                address="local",
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
                **options,
            )
    except (TypeError, ValueError):
        raise
    except Exception as error:  # Ray says with a bare Exception that a machine is too busy for it
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise TryAgain(f"Ray did not start: {first}") from error
