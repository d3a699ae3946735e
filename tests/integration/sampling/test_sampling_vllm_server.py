"""The sample stage with a teacher behind vLLM's own OpenAI server."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from kubedistill_api.data import EndpointSource, EngineSpec, TeacherSampling
from kubedistill_api.stage import SampleParams
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.tiny import embedded_path
from tests.integration.sampling.sampling_stages import ENGINE_ENV, prepare, rows, run_stage

pytestmark = pytest.mark.engine

START_S = 400


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(embedded_path("models/careless-teacher")), "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "256"]
    command += ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-seqs", "64"]
    command += ["--kv-cache-memory-bytes", str(128 * 2**20)]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, env={**os.environ, **ENGINE_ENV}, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_S
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=30)
        server.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def test_traces_of_a_vllm_server_have_text_and_token_ids(url: str, tmp_path: Path) -> None:
    params = SampleParams(
        endpoint=EndpointSource(url=url, model="tiny", max_concurrent=32),
        engine=EngineSpec(),
        sampling=TeacherSampling(samples=4, temperature=1.0, top_p=1.0, max_tokens=128, stop_after_verified=2),
        verification=VerificationSpec(),
    )
    folder = tmp_path / "sample"
    result = run_stage(folder, params, {"prepare": prepare(tmp_path / "prepare", rows("train", 20), [])})
    traces = pq.read_table(folder / "traces.parquet").to_pylist()
    assert result.metrics["questions"] == 20
    assert 20 <= result.metrics["verified"] <= len(traces)
    assert {trace["teacher"] for trace in traces} == {"tiny"}
    assert result.usage.completion_tokens >= sum(len(trace["response_token_ids"]) for trace in traces)
    tokenizer = AutoTokenizer.from_pretrained(embedded_path("models/careless-teacher"))
    for trace in traces:
        assert trace["finish_reason"] == "stop"
        assert trace["response_token_ids"][-1] == tokenizer.eos_token_id
        assert tokenizer.decode(trace["response_token_ids"][:-1], skip_special_tokens=False) == trace["response"]
        assert trace["prompt_token_ids"]
