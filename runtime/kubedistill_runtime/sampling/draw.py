"""Draws and judges responses to a set of questions, and keeps each as a durable record.

Everything runs at the same time: engines draw, verifiers judge what was drawn, the verdicts decide what is drawn
next, and records go to the disk from a thread of their own. Started again, it goes on where the records end.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kubedistill_api.data import SamplingSpec
from kubedistill_runtime.data.traces import TraceStore
from kubedistill_runtime.engines.base import PROMPT_TOO_LONG, Completion, Draw, Engine, Request
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.sampling.scheduler import Scheduler
from kubedistill_runtime.sampling.serving import Prompt, Prompter
from kubedistill_runtime.verify.types import Item, Verdict, VerifierUnavailable

SPECULATE_BELOW = 0.5
"""Share of the engines' capacity in use below which they are given samples that only may be needed."""
BACKLOG = 256
"""Responses that wait for a verdict, or the engines' capacity if that is more, above which no more are asked for:
a response is durable once it is judged, so it must not wait long."""


@dataclass(frozen=True)
class Question:
    """One question to draw responses to."""

    key: tuple[str, ...]
    """Unique in the run: the key columns of its records, without the sample index."""
    question_id: str
    prompt: str
    domain: str
    gold: str | None
    tests: Any
    """`CodeTests` for code, else None."""


@dataclass(frozen=True)
class Drawn:
    """One response with its verdict."""

    question: Question
    sample_index: int
    seed: int
    completion: Completion
    response: str
    prompt_token_ids: tuple[int, ...]
    verdict: Verdict

    @property
    def prompt_tokens(self) -> int | None:
        """As the teacher's tokenizer has them, or as the endpoint counts them; None where it does not."""
        return len(self.prompt_token_ids) or self.completion.prompt_tokens or None

    @property
    def response_tokens(self) -> int | None:
        """The same of the response."""
        tokens = self.completion.completion_tokens
        return None if self.response and not tokens else tokens


class Progress(Protocol):
    def __call__(
        self,
        done: float,
        total: float | None,
        unit: str,
        message: str = "",
        *,
        force: bool = False,
        figures: Mapping[str, float] | None = None,
    ) -> None: ...


@dataclass(frozen=True)
class Model:
    """What answers: engines, and for vLLM the prompts as token ids. An endpoint has neither prompter nor prompts."""

    engine: Engine
    prompter: Prompter | None = None
    prompts: Mapping[str, Prompt] | None = None
    max_model_len: int | None = None


@dataclass
class Tally:
    """What one run of `draw` did. Records of earlier runs count only in `kept`."""

    kept: int = 0
    drawn: int = 0
    verified: int = 0
    tokens: int = 0
    dropped: int = 0
    """Questions whose prompt is too long."""
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float | None:
        return round(self.tokens / self.seconds, 1) if self.seconds and self.tokens else None


def seed_of(seed: int, question_id: str, sample_index: int) -> int:
    """The seed of one response: 63 bits of a hash, the same on every machine and in every order."""
    text = f"{seed}\0{question_id}\0{sample_index}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


class Drawing:
    """One run over a set of questions. Make it, then await `run`."""

    def __init__(
        self,
        model: Model,
        questions: Sequence[Question],
        sampling: SamplingSpec,
        *,
        verify: Callable[[Item], Awaitable[Verdict]],
        store: TraceStore,
        record: Callable[[Drawn], dict[str, Any]],
        progress: Progress,
        stop_after_verified: int | None = None,
    ) -> None:
        self._model = model
        self._questions = {question.key: question for question in questions}
        self._sampling = sampling
        self._verify = verify
        self._store = store
        self._record = record
        self._progress = progress
        self._stop = stop_after_verified
        self.tally = Tally()
        self.scheduler: Scheduler[tuple[str, ...]] = Scheduler(
            [question.key for question in questions], sampling.samples, stop_after_verified
        )
        verified = 0
        for key, row in store.records(["correct", "response_tokens"]):
            if key[:-1] not in self._questions:  # of questions that are answered in another way
                continue
            self.scheduler.restore(key[:-1], key[-1], row["correct"], row["response_tokens"] or 0)
            self.tally.kept += 1
            verified += row["correct"]
        self._verified_before = verified
        self._too_long: set[tuple[str, ...]] = set()
        self._under_way: dict[str, tuple[tuple[str, ...], int, Request]] = {}
        self._judging = 0
        self._changed = asyncio.Event()
        self._started = 0.0

    async def run(self) -> Tally:
        """Returns when every question is decided and every record is durable.

        Raises BadInput or TryAgain, of the engine, of a judge model or of the disk; what was recorded by then stays.
        """
        self._started = time.monotonic()
        self._report(force=True)
        try:
            async with asyncio.TaskGroup() as tasks:
                pump = tasks.create_task(self._pump(tasks))
                while not self.scheduler.finished:
                    self._changed.clear()
                    self._ask()
                    if not self.scheduler.finished:
                        await self._changed.wait()
                pump.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        await asyncio.to_thread(self._store.flush)
        self.tally.seconds = time.monotonic() - self._started
        self._report(force=True)
        return self.tally

    def _ask(self) -> None:
        """Gives the engines as much as they take."""
        engine, scheduler = self._model.engine, self.scheduler
        if self._judging > max(BACKLOG, engine.capacity()):
            return
        while (room := engine.room()) > 0 and (keys := scheduler.next(room)):
            self._submit(keys)
        idle = int(engine.capacity() * SPECULATE_BELOW) - scheduler.in_flight
        if idle > 0 and room > 0:
            self._submit(scheduler.speculate(min(room, idle)))

    def _submit(self, keys: Sequence[tuple[tuple[str, ...], int]]) -> None:
        requests = []
        for key, index in keys:
            request = self._request(key, index)
            if request.draw.max_tokens < 1:
                self._drop(key, index, request)
                continue
            self._under_way[request.id] = (key, index, request)
            requests.append(request)
        if requests:
            self._model.engine.submit(requests)

    def _request(self, key: tuple[str, ...], index: int) -> Request:
        question, spec = self._questions[key], self._sampling
        ids: tuple[int, ...] = ()
        max_tokens = spec.max_tokens
        if self._model.prompts is not None:
            ids = self._model.prompts[question.prompt].token_ids
            assert self._model.max_model_len is not None
            max_tokens = min(max_tokens, self._model.max_model_len - len(ids))
        draw = Draw(
            temperature=spec.temperature,
            top_p=spec.top_p,
            top_k=spec.top_k,
            max_tokens=max_tokens,
            seed=seed_of(spec.seed, question.question_id, index),
        )
        return Request("\0".join((*key, str(index))), question.prompt, ids, draw)

    def _drop(self, key: tuple[str, ...], index: int, request: Request) -> None:
        completion = Completion(request.id, "error", text="", error=PROMPT_TOO_LONG)
        self._take(key, index, request, completion, "", Verdict(False, "none", 0.0, PROMPT_TOO_LONG))

    async def _pump(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            completions = [c for c in await self._model.engine.poll() if c.id in self._under_way]
            for completion, response in zip(completions, self._responses(completions), strict=True):
                self._judging += 1
                tasks.create_task(self._judge(completion, response, *self._under_way[completion.id]))
            self._changed.set()

    def _responses(self, completions: Sequence[Completion]) -> list[str]:
        if not completions or self._model.prompter is None:
            return [completion.text or "" for completion in completions]
        assert self._model.prompts is not None
        prompts = [self._model.prompts[self._under_way[c.id][2].prompt] for c in completions]
        return self._model.prompter.responses(prompts, [c.token_ids for c in completions])

    async def _judge(
        self, completion: Completion, response: str, key: tuple[str, ...], index: int, request: Request
    ) -> None:
        question = self._questions[key]
        if completion.id not in self._under_way:  # given up before its turn came
            self._judging -= 1
            return
        if completion.finish_reason == "error":
            verdict = Verdict(False, "none", 0.0, completion.error)
        else:
            item = Item(completion.id, question.domain, response, question.gold, question.tests)  # type: ignore[arg-type]
            try:
                verdict = await self._verify(item)
            except VerifierUnavailable as error:
                raise BadInput(f"verification: responses cannot be judged on this machine: {error}") from error
        self._judging -= 1
        if self._under_way.pop(completion.id, None) is not None:  # else given up while it was judged
            self._take(key, index, request, completion, response, verdict)
        self._changed.set()

    def _take(
        self,
        key: tuple[str, ...],
        index: int,
        request: Request,
        completion: Completion,
        response: str,
        verdict: Verdict,
    ) -> None:
        tally = self.tally
        if completion.error == PROMPT_TOO_LONG and key not in self._too_long:
            self._too_long.add(key)
            tally.dropped += 1
        prompt_ids = completion.prompt_token_ids or request.prompt_token_ids
        drawn = Drawn(self._questions[key], index, request.draw.seed, completion, response, prompt_ids, verdict)
        self._store.add(self._record(drawn))
        tokens = len(response) // 4 if drawn.response_tokens is None else drawn.response_tokens
        tally.drawn += 1
        tally.verified += verdict.correct
        tally.tokens += tokens
        useless = self.scheduler.complete(key, index, verdict.correct, tokens)
        if useless:
            ids = ["\0".join((*question, str(number))) for question, number in useless]
            for name in ids:
                self._under_way.pop(name, None)
            self._model.engine.abort(ids)
        self._report()

    def _report(self, *, force: bool = False) -> None:
        tally, scheduler = self.tally, self.scheduler
        traces = tally.kept + tally.drawn
        elapsed = time.monotonic() - self._started
        share = (self._verified_before + tally.verified) / traces if traces else 0.0
        message = f"{traces} traces, {share:.0%} verified"
        figures = {"verified_share": share}
        if tally.tokens and elapsed > 1:
            figures["tokens_per_second"] = tally.tokens / elapsed
            message += f", {tally.tokens / elapsed:.0f} tokens/s"
        done, total, unit = scheduler.decided, len(self._questions), "questions"
        if self._stop is None:
            done, total, unit = traces, total * scheduler.samples, "traces"
        self._progress(done, total, unit, message, force=force, figures=figures)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
