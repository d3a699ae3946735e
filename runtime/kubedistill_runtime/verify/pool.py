"""The verifier pool: judges responses while sampling goes on, and never takes the sampler down with it.

What costs microseconds is decided in the caller's process; algebra and model-written programs run in children that may
be killed. Equal pairs of gold and answer are decided once, also when they are asked for at the same time.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Self

from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.verify.answer import answer_section, extract_answer
from kubedistill_runtime.verify.child import WorkerCrashed
from kubedistill_runtime.verify.choice import extract_choice
from kubedistill_runtime.verify.code import extract_program
from kubedistill_runtime.verify.crew import Crew
from kubedistill_runtime.verify.judge import Judge
from kubedistill_runtime.verify.math import compare
from kubedistill_runtime.verify.tests import BUILD_LIMITS
from kubedistill_runtime.verify.types import Item, Outcome, Verdict

WALL_FACTOR = 4
"""Wall clock of a math comparison over its CPU time: a busy machine may take so long, a hanging worker must not."""

CACHE_SIZE = 1 << 17
"""Pairs of gold and answer kept. A pair takes about half a kilobyte."""

_FAIR = 128
"""Items started between two turns of the event loop, in verify_many."""


class VerifierPool:
    """Judges items with `workers` child processes. For one event loop; use as an async context manager, or close it."""

    def __init__(self, spec: VerificationSpec, workers: int | None = None) -> None:
        """workers: at work at a time; None: what the spec says, or one per core. Raises BadInput for a bad judge."""
        self.spec = spec
        self._crew = Crew(workers or spec.workers or usable_cores(), spec.timeout_seconds)
        self._judge = Judge(spec.judge) if spec.judge else None
        self._cache: OrderedDict[tuple[str, str], Outcome] = OrderedDict()
        self._deciding: dict[tuple[str, str], asyncio.Task[Outcome]] = {}

    async def __aenter__(self) -> Self:
        """Raises BadInput where the judge does not accept the key."""
        if self._judge:
            try:
                await self._judge.check()
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def isolation(self) -> dict[str, Any] | None:
        """How model-written code is confined here (see isolation.Isolation); None before a code worker has started."""
        return self._crew.about.get("code")

    async def verify(self, item: Item) -> Verdict:
        """Judge one response.

        Raises VerifierUnavailable where nothing of its kind can be judged on this machine; of a judge model BadInput
        where its key, address or name is wrong, and TryAgain where it does not answer: neither is a verdict.
        """
        started = perf_counter()
        if item.domain == "math":
            return await self._verify_math(item, started)
        if item.domain == "code":
            return await self._verify_code(item, started)
        if item.domain == "choice":
            return self._verify_choice(item, started)
        return _unjudged(f"domain {item.domain!r} is not math, choice or code", started)

    async def verify_many(self, items: Iterable[Item]) -> list[Verdict]:
        """Judge many responses at a time; verdicts in the items' order."""
        tasks = []
        for number, item in enumerate(items, start=1):
            tasks.append(asyncio.create_task(self.verify(item)))
            if number % _FAIR == 0:
                await asyncio.sleep(0)
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def close(self) -> None:
        """End all children and wait for them; verdicts under way are cancelled."""
        for task in list(self._deciding.values()):
            task.cancel()
        await asyncio.gather(*self._deciding.values(), return_exceptions=True)
        await self._crew.close()
        if self._judge:
            await self._judge.close()

    async def _verify_math(self, item: Item, started: float) -> Verdict:
        if self.spec.math == "off":
            return _well_formed(item, started)
        if item.gold is None or not item.gold.strip():
            return _unjudged("gold is missing: a math item needs the expected answer", started)
        answer = extract_answer(item.response)
        if answer.text is None:
            return _unjudged(answer.error, started)
        found = perf_counter() - started
        outcome = await self._outcome(item.gold, answer.text)
        method = outcome.method if answer.found == "boxed" else f"{outcome.method}:{answer.found}"
        return Verdict(outcome.equal is True, method, found + outcome.seconds, outcome.error)

    def _verify_choice(self, item: Item, started: float) -> Verdict:
        if self.spec.choice == "off":
            return _well_formed(item, started)
        if item.gold is None or not item.gold.strip():
            return _unjudged("gold is missing: a choice item needs the letter of the right option", started)
        choice = extract_choice(item.response)
        if choice.letter is None:
            return _unjudged(choice.error, started)
        method = "choice" if choice.found == "boxed" else f"choice:{choice.found}"
        return Verdict(choice.letter == item.gold.strip().upper(), method, perf_counter() - started)

    async def _outcome(self, gold: str, answer: str) -> Outcome:
        pair = (gold, answer)
        if known := self._cache.get(pair):
            self._cache.move_to_end(pair)
            return known
        started = perf_counter()
        if outcome := self._cheap(gold, answer):
            self._remember(pair, outcome)
            return replace(outcome, seconds=perf_counter() - started)
        first = pair not in self._deciding
        if first:
            task = asyncio.create_task(self._decide(gold, answer))
            self._deciding[pair] = task
            task.add_done_callback(lambda task: self._decided(pair, task))
        task = self._deciding[pair]
        try:
            outcome = await asyncio.shield(task)
            return outcome if first else replace(outcome, seconds=0.0)
        except asyncio.CancelledError:
            if task.cancelled():  # by close(), not our caller
                raise RuntimeError("the pool is closed") from None
            raise

    def _decided(self, pair: tuple[str, str], task: asyncio.Task[Outcome]) -> None:
        del self._deciding[pair]
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may be left

    def _cheap(self, gold: str, answer: str) -> Outcome | None:
        outcome = compare(gold, answer)
        return None if outcome is not None and outcome.equal is None and self._judge else outcome

    async def _decide(self, gold: str, answer: str) -> Outcome:
        outcome = compare(gold, answer) or await self._symbolic(gold, answer)
        if outcome.equal is None and self._judge:
            spent = outcome.seconds
            outcome = await self._judge.compare(gold, answer)
            outcome = replace(outcome, seconds=spent + outcome.seconds)
            if outcome.equal is None:
                return outcome  # the judge may do better the next time
        if outcome.equal is None or outcome.error is None:
            self._remember((gold, answer), outcome)
        return outcome

    async def _symbolic(self, gold: str, answer: str) -> Outcome:
        wall = WALL_FACTOR * self.spec.timeout_seconds
        try:
            reply = await self._crew.ask("math", {"gold": gold, "answer": answer}, wall)
        except TimeoutError:
            return Outcome(False, "math-verify", f"timed out after {wall:g} s", wall)
        except WorkerCrashed as error:
            return Outcome(False, "math-verify", str(error))
        return Outcome(reply["equal"], reply["method"], reply["error"], reply["seconds"])

    def _remember(self, pair: tuple[str, str], outcome: Outcome) -> None:
        self._cache[pair] = replace(outcome, seconds=0.0)
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)

    async def _verify_code(self, item: Item, started: float) -> Verdict:
        if self.spec.code == "off":
            return _well_formed(item, started)
        if item.tests is None:
            return _unjudged("tests are missing: a code item needs inputs and outputs", started)
        program = extract_program(item.response)
        if isinstance(program, str):
            return _unjudged(program, started)
        request = {
            "language": program.language,
            "source": program.source,
            "inputs": item.tests.inputs,
            "outputs": item.tests.outputs,
            "fn_name": item.tests.fn_name,
            "limits": self.spec.code_limits.model_dump(by_alias=False),
        }
        wall = BUILD_LIMITS.wall_seconds + len(item.tests.inputs) * (self.spec.code_limits.wall_seconds + 1)
        try:
            reply = await self._crew.ask("code", request, wall)
        except TimeoutError:
            return Verdict(False, "tests", wall, f"timed out after {wall:g} s")
        except WorkerCrashed as error:  # what it spent went with it
            return Verdict(False, "tests", 0.0, str(error))
        return Verdict(reply["correct"], "tests", reply["seconds"], reply["error"])


def usable_cores() -> int:
    """Cores this process may use: its affinity, cut to the CPU limit of its container."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def _unjudged(error: str | None, started: float) -> Verdict:
    return Verdict(False, "none", perf_counter() - started, error)


def _well_formed(item: Item, started: float) -> Verdict:
    section, error = answer_section(item.response)
    return Verdict(section is not None, "off", perf_counter() - started, error)
