"""The Ray cluster that a stage uses: the one at RAY_ADDRESS, or one of its own on this machine."""

import contextlib
import logging
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kubedistill_runtime.engines import leash
from kubedistill_runtime.errors import TryAgain
from kubedistill_runtime.verify.pool import usable_cores

OBJECT_STORE_BYTES = 128 * 2**20
"""Requests and responses are small and go by value; the store only has to exist. Ray would take 30 % of the memory."""

SETTINGS = {
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray runs its workers at a nice value of 15: what else runs on the machine would take the engine's time.
    "RAY_worker_niceness": "0",
    # An actor without GPUs sees none, instead of all.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}


@contextlib.contextmanager
def ray_cluster(num_cpus: int | None = None) -> Iterator[None]:
    """Ray, initialised. A cluster of its own ends with the context, and at once when the driver is killed.

    An initialised Ray is used as it is, and left so. Raises TryAgain when RAY_ADDRESS does not answer.
    """
    for name, value in SETTINGS.items():  # Ray reads them when it is imported
        os.environ.setdefault(name, value)
    if "RAY_ADDRESS" not in os.environ and "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        yield
    elif "RAY_ADDRESS" in os.environ:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ray.exceptions.RayError) as error:
            raise TryAgain(f"RAY_ADDRESS {os.environ['RAY_ADDRESS']}: no Ray cluster answers: {error}") from error
        try:
            yield
        finally:
            ray.shutdown()
    else:
        with _local_cluster(num_cpus or usable_cores()):
            yield


@contextlib.contextmanager
def _local_cluster(num_cpus: int) -> Iterator[None]:
    import ray

    # A short path: the names of Unix sockets below it may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="kd-ray-", dir="/tmp"))
    # The leash is in a session of its own, so that what kills this process group leaves it to do its work.
    watch = subprocess.Popen(
        [sys.executable, "-I", leash.__file__, str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(folder),
        )
        yield
    finally:
        ray.shutdown()
        watch.communicate(b"done")
