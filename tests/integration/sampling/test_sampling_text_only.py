"""A teacher behind an API that gives text without token ids: what is known of its tokens is what the server counts."""

import asyncio
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from kubedistill_api.curation import CurationSpec, QualitySpec
from kubedistill_api.data import EndpointSource, EngineSpec
from kubedistill_api.job import TeacherSampling
from kubedistill_api.stage import CurateParams, SampleParams, StageResult
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.report import tables
from tests.integration.sampling.sampling_stages import prepare, rows, run_stage
from tests.unit.sampling.endpoint_server import server

QUESTIONS = rows("train", 3)
GOLDS = {row["prompt"]: row["gold"] for row in QUESTIONS}
COUNTED = {row["prompt"]: {"prompt_tokens": 10, "completion_tokens": 100 * (n + 1)} for n, row in enumerate(QUESTIONS)}


async def run(tmp_path: Path, *, tells: bool) -> StageResult:
    """The sample stage, two samples of each question; the responses are of 100, 200 and 300 tokens."""

    async def chat(incoming: web.Request) -> web.Response:
        prompt = (await incoming.json())["messages"][0]["content"]
        text = f"<think>\nlet me see\n</think>\n\n\\boxed{{{GOLDS[prompt]}}}"
        answer: dict[str, Any] = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        return web.json_response(answer | ({"usage": COUNTED[prompt]} if tells else {}))

    async with server(chat) as url:
        params = SampleParams(
            endpoint=EndpointSource(url=url, model="m"),
            engine=EngineSpec(),
            sampling=TeacherSampling(samples=2),
            verification=VerificationSpec(workers=1),
        )
        inputs = {"prepare": prepare(tmp_path / "prepare", QUESTIONS, QUESTIONS[:1])}
        return await asyncio.to_thread(run_stage, tmp_path / "sample", params, inputs)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    return {name: tmp_path / name for name in ("prepare", "sample")}


async def test_the_servers_counts_are_what_the_traces_cost_and_how_long_they_are(
    tmp_path: Path, inputs: dict[str, Path]
) -> None:
    result = await run(tmp_path, tells=True)
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (60, 1200)
    assert result.metrics["mean_response_tokens"] == 200
    traces = tmp_path / "sample" / "traces.parquet"
    assert sorted(pq.read_table(traces)["response_tokens"].to_pylist()) == [100, 100, 200, 200, 300, 300]
    lengths = tables.lengths(traces, set())
    assert lengths is not None
    assert lengths.median == 200

    curation = CurationSpec(quality=QualitySpec(max_tokens=250))
    curated = run_stage(tmp_path / "curate", CurateParams(curation=curation), inputs)
    assert curated.metrics["corpus_tokens"] == sum(
        pq.read_table(tmp_path / "curate" / "corpus.parquet")["response_tokens"].to_pylist()
    )
    fates = pq.read_table(tmp_path / "curate" / "trace_fates.parquet").to_pylist()
    assert [fate["text"] for fate in fates if fate["reason"] == "too_long"] == ["300 tokens, 250 are allowed"] * 2


async def test_tokens_that_nobody_counted_are_not_told(tmp_path: Path, inputs: dict[str, Path]) -> None:
    result = await run(tmp_path, tells=False)
    assert result.metrics["verified"] == 6
    assert result.metrics["mean_response_tokens"] is None
    assert tables.lengths(tmp_path / "sample" / "traces.parquet", set()) is None
    curated = run_stage(tmp_path / "curate", CurateParams(curation=CurationSpec()), inputs)
    assert curated.metrics["corpus_tokens"] is None
