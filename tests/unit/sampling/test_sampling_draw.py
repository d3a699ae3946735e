"""The loop that draws and judges, with an engine and a verifier of straw."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kubedistill_api.data import TeacherSampling
from kubedistill_runtime.data.traces import TRACES, TraceStore
from kubedistill_runtime.engines.base import PROMPT_TOO_LONG, Completion, EngineStats, Request
from kubedistill_runtime.errors import TryAgain
from kubedistill_runtime.sampling.draw import Drawing, Drawn, Model, Question, seed_of
from kubedistill_runtime.sampling.serving import Prompt
from kubedistill_runtime.stages.sample import trace_record
from kubedistill_runtime.verify.types import Item, Verdict


@dataclass
class StrawEngine:
    """Answers in a random order; what it answers depends on the seed alone."""

    chance: random.Random
    slots: int = 8
    dies_after: int | None = None
    stats: EngineStats = field(default_factory=EngineStats)
    under_way: list[Request] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        pass

    def room(self) -> int:
        return self.slots - len(self.under_way)

    def capacity(self) -> int:
        return self.slots

    def submit(self, requests: Sequence[Request]) -> None:
        assert len(requests) <= self.room()
        self.under_way.extend(requests)
        self.asked.extend(request.id for request in requests)
        self.changed.set()

    def abort(self, ids: Iterable[str]) -> None:
        gone = set(ids)
        self.under_way = [request for request in self.under_way if request.id not in gone]

    async def poll(self) -> list[Completion]:
        while not self.under_way:
            self.changed.clear()
            await self.changed.wait()
        await asyncio.sleep(0)
        if self.dies_after is not None:
            self.dies_after -= 1
            if self.dies_after < 0:
                raise TryAgain("the engine is gone")
        ended = []
        for _ in range(min(len(self.under_way), self.chance.randint(1, 3))):
            request = self.under_way.pop(self.chance.randrange(len(self.under_way)))
            draw = request.draw
            length = min(draw.seed % 20 + 1, draw.max_tokens)
            text = "right" if draw.seed % 5 < 2 else "wrong"
            reason = "length" if length == draw.max_tokens else "stop"
            ended.append(Completion(request.id, reason, tuple(range(length)), text, completion_tokens=length))
        return ended

    async def close(self) -> None:
        pass


async def verify(item: Item) -> Verdict:
    await asyncio.sleep(0)
    return Verdict(item.response == "right", "string", 0.0)


QUESTIONS = [Question((name,), name, f"What is {name}?", "math", "1", None) for name in "abcdefgh"]
SAMPLING = TeacherSampling(samples=6, max_tokens=100, stop_after_verified=2)


async def draw(
    folder: Path, engine: StrawEngine, sampling: TeacherSampling = SAMPLING, **parts: Any
) -> tuple[list[dict[str, Any]], Drawing]:
    """Traces as they would be in the file, and the drawing."""
    with TraceStore(folder / "parts", TRACES) as store:
        drawing = Drawing(
            Model(engine, **parts),
            QUESTIONS,
            sampling,
            verify=verify,
            store=store,
            record=lambda drawn: trace_record(drawn, "straw"),
            progress=lambda *_, **__: None,
            stop_after_verified=sampling.stop_after_verified,
        )
        await drawing.run()
        surplus = {key: drawing.scheduler.is_surplus(key[:-1], key[-1]) for key, _ in store.records([])}
        store.compact(folder / "traces.parquet", [question.key for question in QUESTIONS], {"surplus": surplus})
    return pq.read_table(folder / "traces.parquet").to_pylist(), drawing


def counting(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**trace, "latency_seconds": 0} for trace in traces if not trace["surplus"]]


async def test_the_corpus_does_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    corpora = []
    for seed in range(5):
        traces, _ = await draw(tmp_path / str(seed), StrawEngine(random.Random(seed), slots=1 + 7 * seed))
        corpora.append(counting(traces))
    assert all(corpus == corpora[0] for corpus in corpora)
    verified = [sum(t["correct"] for t in corpora[0] if t["question_id"] == q.question_id) for q in QUESTIONS]
    assert max(verified) == 2
    assert all(t["seed"] == seed_of(0, t["question_id"], t["sample_index"]) for t in corpora[0])


async def test_an_engine_that_dies_again_and_again_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    whole, _ = await draw(tmp_path / "whole", StrawEngine(random.Random(0)))
    for attempt in range(100):
        engine = StrawEngine(random.Random(attempt), dies_after=3)
        before = {key for key, _ in TraceStore(tmp_path / "parts", TRACES).records([])}
        try:
            traces, _ = await draw(tmp_path, engine)
        except TryAgain:
            assert not {tuple(name.split("\0")) for name in engine.asked} & {(q, str(i)) for q, i in before}
            continue
        break
    assert attempt > 2
    assert counting(traces) == counting(whole)
    assert len({(t["question_id"], t["sample_index"]) for t in traces}) == len(traces)


async def test_a_prompt_that_leaves_no_room_is_dropped_by_name_and_the_others_are_drawn(tmp_path: Path) -> None:
    prompts = {q.prompt: Prompt(q.prompt, tuple(range(5))) for q in QUESTIONS}
    prompts[QUESTIONS[3].prompt] = Prompt("long", tuple(range(40)))
    traces, drawing = await draw(
        tmp_path, StrawEngine(random.Random(0)), prompts=prompts, max_model_len=40, prompter=_Straw()
    )
    dropped = [t for t in traces if t["question_id"] == QUESTIONS[3].question_id]
    assert {(t["finish_reason"], t["error"], t["correct"]) for t in dropped} == {("error", PROMPT_TOO_LONG, False)}
    assert drawing.tally.dropped == 1
    assert all(t["finish_reason"] != "error" for t in traces if t not in dropped)


async def test_max_tokens_is_cut_to_what_the_context_leaves(tmp_path: Path) -> None:
    prompts = {q.prompt: Prompt(q.prompt, tuple(range(30))) for q in QUESTIONS}
    traces, _ = await draw(
        tmp_path, StrawEngine(random.Random(0)), prompts=prompts, max_model_len=40, prompter=_Straw()
    )
    assert max(len(t["response_token_ids"]) for t in traces) == 10
    assert {t["finish_reason"] for t in traces} == {"stop", "length"}


class _Straw:
    def responses(self, prompts: Sequence[Prompt], token_ids: Sequence[Sequence[int]]) -> list[str]:
        return ["right" if len(ids) % 2 else "wrong" for ids in token_ids]


async def test_without_a_stop_every_sample_is_drawn(tmp_path: Path) -> None:
    sampling = TeacherSampling(samples=3, max_tokens=100)
    traces, _ = await draw(tmp_path, StrawEngine(random.Random(0)), sampling)
    assert [(t["question_id"], t["sample_index"]) for t in traces] == [
        (q.question_id, index) for q in QUESTIONS for index in range(3)
    ]
    assert not any(t["surplus"] for t in traces)


async def test_a_verifier_that_fails_ends_the_run_with_its_own_error(tmp_path: Path) -> None:
    async def broken(item: Item) -> Verdict:
        raise RuntimeError("no isolation here")

    with TraceStore(tmp_path, TRACES) as store:
        drawing = Drawing(
            Model(StrawEngine(random.Random(0))),
            QUESTIONS,
            SAMPLING,
            verify=broken,
            store=store,
            record=_record,
            progress=lambda *_, **__: None,
        )
        with pytest.raises(RuntimeError, match="no isolation here"):
            await drawing.run()


def _record(drawn: Drawn) -> dict[str, Any]:
    return trace_record(drawn, "straw")


def test_seeds_have_63_bits_and_differ() -> None:
    seeds = {seed_of(seed, question, index) for seed in (0, 1) for question in "abc" for index in range(100)}
    assert len(seeds) == 600
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(0, "a", 11) != seed_of(0, "a1", 1)
    assert seed_of(7, "q", 3) == seed_of(7, "q", 3)
