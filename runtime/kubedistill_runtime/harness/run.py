"""The harness's tasks of a stage, on the engines that the stage has."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kubedistill_api.data import Benchmark
from kubedistill_runtime.data.traces import TraceStore
from kubedistill_runtime.engines.base import Completion, Engine, Request
from kubedistill_runtime.harness.kept import find, keep, kept_in
from kubedistill_runtime.harness.tasks import Task, build_requests, evaluate, first_metric, load_tasks, verdicts
from kubedistill_runtime.sampling.draw import Progress
from kubedistill_runtime.sampling.serving import Prompter, Served

UNBOUNDED = 2**31


class Harness:
    """The benchmarks that are tasks of the harness, loaded. Raises BadInput and TryAgain as `load_tasks` does."""

    def __init__(self, benchmarks: Sequence[Benchmark]) -> None:
        self._loaded = [(one, load_tasks(one, f"benchmark {one.name}")) for one in benchmarks]

    def longest(self, prompter: Prompter) -> int:
        """Tokens of the longest request with its response."""
        from kubedistill_runtime.harness.model import EngineLM

        longest = 0
        for benchmark, tasks in self._loaded:
            chat = _chats(benchmark)
            lm = EngineLM(prompter, _nobody, UNBOUNDED, chat_template=chat, seed=0)
            for task in tasks.values():
                instances = build_requests(task, benchmark.limit, lm, chat_template=chat)
                longest = max(longest, lm.longest(instances))
        return longest

    async def answer(self, served: Served, seed: int, store: TraceStore, progress: Progress, folder: Path) -> None:
        """Adds an answer to each question to the store; a benchmark whose answers are all there is not asked again.

        In the folder is kept what the engines have answered, until all is in the store; then it is removed.
        """
        if not self._loaded:
            return
        from kubedistill_runtime.harness.model import EngineLM

        loop = asyncio.get_running_loop()
        with kept_in(folder) as kept:
            for benchmark, tasks in self._loaded:
                missing = {key for key in _keys(benchmark, tasks) if key not in store}
                if not missing:
                    continue

                def ask(requests: Sequence[Request], name: str = benchmark.name) -> dict[str, Completion]:
                    told = _told(progress, name, len(requests))
                    return asyncio.run_coroutine_threadsafe(drawn(served.pool, requests, kept, told), loop).result()

                chat = _chats(benchmark)
                lm = EngineLM(served.prompter, ask, served.max_model_len, chat_template=chat, seed=seed)
                # The harness is no coroutine: it waits in a thread for what the engines draw in this one.
                samples = await asyncio.to_thread(evaluate, benchmark, tasks, lm)
                for record in _records(benchmark, tasks, samples, lm.said):
                    if (record["benchmark"], record["question_id"], record["sample_index"]) in missing:
                        store.add(record)
            store.flush()
            kept.flush()
            kept.discard()


async def drawn(
    engine: Engine, requests: Sequence[Request], kept: TraceStore, told: Callable[[int], None]
) -> dict[str, Completion]:
    """Completions of all requests by their ids, never more at a time than the engine has room for."""
    done = find(kept, requests)
    by_id = {request.id: request for request in requests if request.id not in done}
    waiting = deque(by_id.values())
    while len(done) < len(requests):
        if waiting and (room := engine.room()) > 0:
            engine.submit([waiting.popleft() for _ in range(min(room, len(waiting)))])
        for completion in await engine.poll():
            keep(kept, by_id[completion.id], completion)
            done[completion.id] = completion
        told(len(done))
    return done


def _told(progress: Progress, benchmark: str, total: int) -> Callable[[int], None]:
    return lambda done: progress(done, total, "requests", f"{benchmark}, as the harness asks it")


def _nobody(requests: Sequence[Request]) -> Mapping[str, Completion]:
    raise AssertionError("asked before there is an engine")


def _chats(benchmark: Benchmark) -> bool:
    assert benchmark.harness is not None
    return benchmark.harness.chat_template


def _keys(benchmark: Benchmark, tasks: Mapping[str, Task]) -> Iterator[tuple[str, str, int]]:
    for name, task in tasks.items():
        for number, _ in task.doc_iterator(limit=benchmark.limit):
            yield benchmark.name, f"{name}/{number}", 0


def _records(
    benchmark: Benchmark, tasks: Mapping[str, Task], samples: Mapping[str, Any], said: Mapping[Any, Any]
) -> Iterator[dict[str, Any]]:
    """Rows of results.parquet."""
    assert benchmark.harness is not None
    for name, task in tasks.items():
        judged = verdicts(samples[name], benchmark.harness, name, first_metric(task))
        for number, (correct, method) in judged.items():
            answer = said[name, number]
            yield {
                "benchmark": benchmark.name,
                "question_id": f"{name}/{number}",
                "sample_index": 0,
                "correct": correct,
                "method": method,
                "error": answer.error,
                "response": answer.text,
                "response_tokens": answer.tokens,
                "truncated": answer.truncated,
                "seed": answer.seed,
            }
