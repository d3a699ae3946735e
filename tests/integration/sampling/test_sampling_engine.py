"""Real engines: the same corpus whatever happens on the way."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubedistill_api.data import EngineSpec, ModelSource, SamplingSpec, TeacherSampling
from kubedistill_api.runtime import RoleSpec
from kubedistill_api.stage import BaselineParams, EvaluateParams, SampleParams
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data.models import model_path
from kubedistill_runtime.data.traces import TRACES, TraceStore
from kubedistill_runtime.engines.base import PROMPT_TOO_LONG, Completion, Draw, Request
from kubedistill_runtime.sampling.draw import Drawing, Model, Question
from kubedistill_runtime.sampling.serving import Served, Wanted, serving
from kubedistill_runtime.stages.sample import trace_record
from kubedistill_runtime.verify.pool import VerifierPool
from tests.integration.sampling.sampling_stages import ENGINE_ENV, prepare, rows, run_stage, started_stage, trained

pytestmark = pytest.mark.engine

TEACHER = ModelSource(uri="embedded://models/careless-teacher")
ENGINE = EngineSpec(max_num_seqs=64)
SAMPLING = TeacherSampling(samples=8, temperature=1.0, top_p=1.0, max_tokens=128, stop_after_verified=6)
QUESTIONS = rows("train", 150)
TOO_LONG = "Compute " + "+".join("1" * 400) + "."


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """One engine for the tests that only look at what it draws; the last of them kills it."""
    os.environ.update(ENGINE_ENV)
    wanted = [Wanted([*(row["prompt"] for row in QUESTIONS), TOO_LONG], SAMPLING.max_tokens)]
    engine = ENGINE.model_copy(update={"max_model_len": 256})
    with serving(model_path(TEACHER), engine, RoleSpec(), wanted) as one, asyncio.Runner() as runner:
        runner.run(one.pool.start())
        one.pool.runner = runner
        yield one
        runner.run(one.pool.close())


def draw(served: Served, folder: Path, rows: list[dict[str, Any]] = QUESTIONS, kill_at: int | None = None) -> list[Any]:
    """Traces of the questions; with `kill_at` the engine's process is killed once so many were drawn."""
    asked = [
        Question((row["question_id"],), row["question_id"], row["prompt"], "math", row["gold"], None) for row in rows
    ]

    async def run() -> None:
        with TraceStore(folder / "parts", TRACES) as store:
            async with VerifierPool(VerificationSpec(), 1) as verifier:
                drawing = Drawing(
                    Model(served.pool, served.prompter, served.prompts, served.max_model_len),
                    asked,
                    SAMPLING,
                    verify=verifier.verify,
                    store=store,
                    record=lambda drawn: trace_record(drawn, TEACHER.uri),
                    progress=lambda *_, **__: None,
                    stop_after_verified=SAMPLING.stop_after_verified,
                )
                running = asyncio.create_task(drawing.run())
                while kill_at is not None and drawing.tally.drawn < kill_at:
                    assert not running.done()
                    await asyncio.sleep(0.01)
                if kill_at is not None:
                    os.kill(served.pool.pids()[0], signal.SIGKILL)
                await running
                surplus = {key: drawing.scheduler.is_surplus(key[:-1], key[-1]) for key, _ in store.records([])}
                store.compact(folder / "traces.parquet", [question.key for question in asked], {"surplus": surplus})

    served.pool.runner.run(run())
    return pq.read_table(folder / "traces.parquet").to_pylist()


def corpus(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What counts, without how long it took."""
    return [
        {**trace, "latency_seconds": 0, "verify_seconds": 0, "teacher": ""} for trace in traces if not trace["surplus"]
    ]


@pytest.fixture(scope="module")
def reference(served: Served, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return draw(served, tmp_path_factory.mktemp("reference"))


def test_the_teacher_is_drawn_and_judged(reference: list[dict[str, Any]], served: Served) -> None:
    verified = [trace for trace in reference if trace["correct"]]
    assert len(verified) > 0.5 * len(reference)
    first = reference[0]
    assert first["response"].startswith("<think>\n")
    assert "<|im_end|>" not in first["response"]
    assert tuple(first["prompt_token_ids"]) == served.prompts[QUESTIONS[0]["prompt"]].token_ids
    stopped = [trace for trace in reference if trace["finish_reason"] == "stop"]
    assert {trace["response_token_ids"][-1] for trace in stopped} == {2}, "the end of sequence is among the ids"
    assert len({trace["response"] for trace in reference if trace["question_id"] == "train-0"}) > 1


def test_each_question_ends_with_enough_verified_or_all_samples(reference: list[dict[str, Any]]) -> None:
    for row in QUESTIONS:
        own = [trace for trace in reference if trace["question_id"] == row["question_id"] and not trace["surplus"]]
        assert [trace["sample_index"] for trace in own] == list(range(len(own)))
        assert sum(trace["correct"] for trace in own) == 6 or len(own) == 8


def test_a_response_does_not_depend_on_what_is_drawn_beside_it(served: Served, reference: list[dict[str, Any]]) -> None:
    known = {(trace["question_id"], trace["sample_index"]): trace for trace in reference}
    prompts = {row["question_id"]: row["prompt"] for row in QUESTIONS}

    async def alone(keys: list[tuple[str, int]]) -> list[Completion]:
        requests = [
            Request(
                f"alone/{question}/{index}",
                prompts[question],
                served.prompts[prompts[question]].token_ids,
                Draw(1.0, 1.0, 0, SAMPLING.max_tokens, known[question, index]["seed"]),
            )
            for question, index in keys
        ]
        served.pool.submit(requests)
        done: list[Completion] = []
        while len(done) < len(requests):
            done += await served.pool.poll()
        return sorted(done, key=lambda completion: [request.id for request in requests].index(completion.id))

    for count in (1, 3, 17):
        keys = list(known)[count : count * 4 : 3]
        for key, completion in zip(keys, served.pool.runner.run(alone(keys)), strict=True):
            assert list(completion.token_ids) == known[key]["response_token_ids"]


def test_a_prompt_longer_than_the_context_is_dropped_by_name(served: Served, tmp_path: Path) -> None:
    long = {"question_id": "long", "prompt": TOO_LONG, "gold": "1"}
    traces = draw(served, tmp_path, [QUESTIONS[0], long])
    assert {t["error"] for t in traces if t["question_id"] == "long"} == {PROMPT_TOO_LONG}
    assert {t["error"] for t in traces if t["question_id"] != "long"} == {None}


def test_an_engine_that_is_killed_is_started_again_and_the_corpus_is_the_same(
    served: Served, reference: list[dict[str, Any]], tmp_path: Path
) -> None:
    traces = draw(served, tmp_path, kill_at=150)
    assert served.pool.stats.restarts == 1
    assert corpus(traces) == corpus(reference)


def test_a_stage_that_is_killed_goes_on_where_it_was_and_ends_with_the_same_corpus(
    reference: list[dict[str, Any]], tmp_path: Path
) -> None:
    params = SampleParams(model=TEACHER, engine=ENGINE, sampling=SAMPLING, verification=VerificationSpec())
    inputs = {"prepare": prepare(tmp_path / "prepare", QUESTIONS, [])}
    folder = tmp_path / "sample"
    with started_stage(folder, params, inputs) as process:
        while len(_recorded(folder)) < 100:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.kill()
    assert len(family) > 4
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE], "processes outlive their stage"
    assert not (folder / "traces.parquet").exists()
    before = _recorded(folder)

    result = run_stage(folder, params, inputs)
    traces = pq.read_table(folder / "traces.parquet").to_pylist()
    after = {(trace["question_id"], trace["sample_index"]): trace for trace in traces}
    assert len(after) == len(traces) == result.metrics["traces"], "a trace is there twice"
    assert result.metrics["resumed_from"] == len(before)
    assert all(after[key]["latency_seconds"] == latency for key, latency in before.items()), "drawn again"
    assert corpus(traces) == corpus(reference)


def _recorded(folder: Path) -> dict[Any, float]:
    """Latencies of the durable traces by key: no two draws take equally long."""
    if not (folder / "traces").is_dir():
        return {}
    found: dict[Any, float] = {}
    for path in (folder / "traces").glob("*.arrow"):
        try:
            table = pa.ipc.open_file(path.read_bytes()).read_all()
        except FileNotFoundError:  # became part of another meanwhile
            continue
        keys = zip(table["question_id"].to_pylist(), table["sample_index"].to_pylist(), strict=True)
        found.update(zip(keys, table["latency_seconds"].to_pylist(), strict=True))
    return found


def test_the_baseline_gives_pass_rates_and_scores_in_one_engine_load(tmp_path: Path) -> None:
    prepared = prepare(tmp_path / "prepare", rows("train", 20), rows("benchmark", 10))
    spec = SamplingSpec(samples=4, temperature=1.0, top_p=1.0, max_tokens=128)
    params = BaselineParams(
        model=ModelSource(uri="embedded://models/student"),
        engine=ENGINE,
        pass_rate=spec,
        evaluation=spec,
        verification=VerificationSpec(),
    )
    folder = tmp_path / "baseline"
    result = run_stage(folder, params, {"prepare": prepared})
    rates = pq.read_table(folder / "pass_rates.parquet").to_pylist()
    assert [rate["question_id"] for rate in rates] == [f"train-{number}" for number in range(20)]
    assert all(rate["samples"] == 4 and rate["pass_rate"] == rate["correct"] / 4 for rate in rates)
    answers = pq.read_table(folder / "results.parquet").to_pylist()
    assert [(a["benchmark"], a["question_id"], a["sample_index"]) for a in answers] == [
        ("sums", f"benchmark-{number}", index) for number in range(10) for index in range(4)
    ]
    assert 0 < result.metrics["mean_pass_rate"] < 1
    assert result.usage.completion_tokens >= sum(answer["response_tokens"] for answer in answers)
    assert sorted(path.name for path in folder.iterdir()) == [
        "log",
        "pass_rates.parquet",
        "progress.json",
        "result.json",
        "results.parquet",
        "sources.json",
        "spec.json",
    ]


def test_students_that_share_a_stage_answer_as_each_would_alone(tmp_path: Path) -> None:
    prepared = prepare(tmp_path / "prepare", QUESTIONS[:4], rows("benchmark", 20))
    trains = {f"train-{name}": trained(tmp_path / name, name) for name in ("student", "careless-teacher")}
    params = EvaluateParams(
        engine=ENGINE.model_copy(update={"max_model_len": 256}),
        evaluation=SamplingSpec(samples=2, temperature=1.0, top_p=1.0, max_tokens=128),
        pass_at=[],
        confidence=0.95,
        verification=VerificationSpec(),
    )
    several = params.model_copy(update={"students": list(trains)})
    together = run_stage(tmp_path / "together", several, {"prepare": prepared, **trains})
    assert set(together.outputs) == {f"{kind}/{role}" for kind in ("results", "scores") for role in trains}
    alone = run_stage(tmp_path / "alone", params, {"prepare": prepared, "train": trains["train-careless-teacher"]})
    assert together.usage.completion_tokens > alone.usage.completion_tokens
    columns = ["question_id", "sample_index", "response", "correct"]
    second = pq.read_table(tmp_path / "together" / "train-careless-teacher" / "results.parquet", columns=columns)
    assert second.equals(pq.read_table(tmp_path / "alone" / "results.parquet", columns=columns))
