"""The bench, and the end of everything that it started."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.local.local_bench import Bench, eventually, is_alive


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("KUBEDISTILL_TEST_FOLDER", str(tmp_path))
    bench = Bench(tmp_path)
    bench.write()
    yield bench
    for process in bench.processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    eventually(lambda: not any(is_alive(e["pid"]) for e in bench.events("start")))
