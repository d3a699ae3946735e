"""Several vLLM engines behind one queue.

A request goes to the engine with the most room when it is its turn, so no engine waits while another has a queue. An
engine that dies is started again, and only what it had under way is asked for again, of another one that is ready.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kubedistill_runtime.engines.base import Completion, EngineStats, Request
from kubedistill_runtime.engines.ray_cluster import POD_RESOURCE
from kubedistill_runtime.engines.vllm_engine import EngineConfig, EngineInfo, Failure, Polled, VllmEngine
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.sampling.concurrency import Concurrency, Load

log = logging.getLogger(__name__)

MAX_RESTARTS = 4
"""Starts of one engine after its first; what dies that often has a cause that another start does not remove."""
OBSERVE_EVERY_S = 1.0
"""Between two observations of an engine's load: shorter, and what a change does would not show yet."""
SCHEDULE_S = 900.0
"""Wait for Ray to find a place for an engine."""


@dataclass(eq=False)
class _Slot:
    number: int
    actor: Any = None
    concurrency: Concurrency | None = None
    """None until the engine is ready."""
    model: str = ""
    """What it serves."""
    in_flight: dict[str, Request] = field(default_factory=dict)
    restarts: int = 0
    observed: float = 0.0
    preemptions: int = 0
    finished: int = 0

    @property
    def room(self) -> int:
        return self.concurrency.cap - len(self.in_flight) if self.concurrency else 0


class VllmPool:
    """`count` engines of `gpus` GPUs each (0: on the CPU). Ray must be initialised.

    Making the pool starts the actors, which import vLLM meanwhile; `start` loads the model.
    """

    def __init__(self, count: int, gpus: int) -> None:
        self.stats = EngineStats()
        self._gpus = gpus
        self._count = count
        self._by_pod = not gpus and _has_pods()
        self._config: EngineConfig | None = None
        self._slots = [_Slot(number) for number in range(count)]
        self._events: asyncio.Queue[list[Completion] | Exception] = asyncio.Queue()
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        _check_gpus(count, gpus)
        for slot in self._slots:
            slot.actor = self._spawn()

    def configure(self, config: EngineConfig) -> None:
        """Says what `start` loads."""
        self._config = config

    async def start(self) -> None:
        """Returns when the first engine is ready; the others join as they are. Raises BadInput or TryAgain."""
        self._tasks = [asyncio.create_task(self._serve(slot)) for slot in self._slots]
        await self._ready.wait()
        if not any(slot.concurrency for slot in self._slots):
            await self.poll()

    async def load(self, model: str) -> None:
        """Serves another model from now on; no request may be under way.

        An engine that fails to is started again with the new one.
        """
        import ray

        assert self._config is not None
        self._config = replace(self._config, model=model)
        for slot in self._slots:
            if slot.concurrency:
                with contextlib.suppress(ray.exceptions.RayActorError):  # the one who serves it sees it, too
                    await slot.actor.load.remote(model)
                    slot.model = model

    def room(self) -> int:
        return sum(max(0, slot.room) for slot in self._slots)

    def capacity(self) -> int:
        return sum(slot.concurrency.cap for slot in self._slots if slot.concurrency)

    def pids(self) -> list[int]:
        """Processes of the engines that are ready."""
        return [int(self.stats.details[f"pid_{slot.number}"]) for slot in self._slots if slot.concurrency]

    def submit(self, requests: Sequence[Request]) -> None:
        batches: dict[int, list[Request]] = {}
        ready = [slot for slot in self._slots if slot.concurrency] or self._alive
        for request in requests:
            slot = max(ready, key=lambda slot: slot.room)
            slot.in_flight[request.id] = request
            batches.setdefault(slot.number, []).append(request)
        for number, batch in batches.items():
            if self._slots[number].concurrency:  # else it is given them when it is ready
                self._slots[number].actor.submit.remote(batch)

    def abort(self, ids: Iterable[str]) -> None:
        wanted = set(ids)
        for slot in self._slots:
            own = [name for name in wanted if slot.in_flight.pop(name, None) is not None]
            if own:
                self.stats.aborted += len(own)
                slot.actor.abort.remote(own)

    async def poll(self) -> list[Completion]:
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    async def close(self) -> None:
        import ray

        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in self._slots:
            ray.kill(slot.actor)

    def _spawn(self) -> Any:
        import ray

        options = {"num_cpus": 0, "num_gpus": self._gpus, "max_concurrency": 4, "scheduling_strategy": "SPREAD"}
        if self._by_pod:
            options["resources"] = {POD_RESOURCE: 1}
        sharing = None if self._gpus else 1 if self._by_pod else self._count
        return ray.remote(VllmEngine).options(**options).remote(sharing)

    async def _serve(self, slot: _Slot) -> None:
        """Keeps one engine alive and carries what it answers, until it cannot be helped."""
        import ray

        try:
            while True:
                failure = await self._one_life(slot)
                slot.concurrency = None
                if failure.bad_input:
                    raise BadInput(f"vLLM does not take the model or the engine's settings: {failure.message}")
                if slot.restarts >= MAX_RESTARTS:
                    raise TryAgain(f"the engine died {MAX_RESTARTS + 1} times, the last time of: {failure.message}")
                slot.restarts += 1
                self.stats.restarts += 1
                log.warning("engine %d died and is started again: %s", slot.number, failure.message)
                slot.actor = self._spawn()
                if any(other.concurrency for other in self._slots):
                    self._hand_over(slot)
        except TryAgain as error:
            self._give_up(slot, error)
        except ray.exceptions.RayError as error:
            self._tell(TryAgain(f"Ray failed: {_first_line(error)}"))
        except Exception as error:
            self._tell(error)

    async def _one_life(self, slot: _Slot) -> Failure:
        """From loading the model to the engine's end, whose cause is returned."""
        import ray

        actor = slot.actor
        try:
            await asyncio.wait_for(_awaited(actor.__ray_ready__.remote()), SCHEDULE_S)
            assert self._config is not None
            slot.model = self._config.model
            info = await actor.configure.remote(self._config)
            if isinstance(info, Failure):
                return info
            while slot.model != self._config.model:  # another one was asked for meanwhile
                slot.model = self._config.model
                if failure := await actor.load.remote(slot.model):
                    return failure
            self._welcome(slot, info)
            if slot.in_flight:
                actor.submit.remote(list(slot.in_flight.values()))
            while True:
                polled = await actor.poll.remote()
                if isinstance(polled, Failure):
                    ray.kill(actor)
                    return polled
                self._take(slot, polled)
        except TimeoutError as error:
            size = f" of {self._gpus} GPUs" if self._gpus else ""
            raise TryAgain(f"Ray found no place for an engine{size} in {SCHEDULE_S:.0f} s") from error
        except ray.exceptions.RayActorError as error:
            ray.kill(actor)  # it may only be out of reach, and would hold on to its GPUs
            return Failure(f"its process ended ({_first_line(error)})", bad_input=False)

    def _welcome(self, slot: _Slot, info: EngineInfo) -> None:
        assert self._config is not None
        slot.concurrency = Concurrency(info.max_num_seqs, info.kv_tokens, self._config.max_model_len)
        slot.observed = time.monotonic()
        self.stats.details[f"pid_{slot.number}"] = info.pid
        self._ready.set()
        self._events.put_nowait([])  # there is room now

    def _take(self, slot: _Slot, polled: Polled) -> None:
        completions = [c for c in polled.completions if slot.in_flight.pop(c.id, None) is not None]
        self.stats.prompt_tokens += sum(c.prompt_tokens for c in completions)
        self.stats.completion_tokens += sum(c.completion_tokens for c in completions)
        slot.preemptions += polled.load.preemptions
        slot.finished += polled.load.finished
        now = time.monotonic()
        if now - slot.observed >= OBSERVE_EVERY_S and slot.concurrency:
            load = polled.load
            slot.concurrency.observe(Load(load.kv_usage, load.running, load.waiting, slot.preemptions, slot.finished))
            slot.observed, slot.preemptions, slot.finished = now, 0, 0
        if completions:
            self.stats.answered.add(slot.number)
            self._events.put_nowait(completions)

    def _give_up(self, slot: _Slot, error: TryAgain) -> None:
        """The others do its work, where there are any left."""
        import ray

        slot.restarts = MAX_RESTARTS + 1
        ray.kill(slot.actor)
        if self._alive:
            log.warning("engine %d is given up: %s", slot.number, error)
            self._hand_over(slot)
        else:
            self._tell(error)

    def _hand_over(self, slot: _Slot) -> None:
        moved, slot.in_flight = list(slot.in_flight.values()), {}
        self.submit(moved)

    @property
    def _alive(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.restarts <= MAX_RESTARTS]

    def _tell(self, error: Exception) -> None:
        self._events.put_nowait(error)
        self._ready.set()


async def _awaited(reference: Any) -> Any:
    return await reference


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _has_pods() -> bool:
    """Whether the cluster is one of ours over several pods, where each has a place for an engine."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()
    return POD_RESOURCE in resources


def _check_gpus(count: int, gpus: int) -> None:
    import ray

    resources: dict[str, float] = ray.cluster_resources()
    total = int(resources.get("GPU", 0))
    if gpus and total < gpus:
        raise BadInput(
            f"engine.tensorParallelSize x engine.pipelineParallelSize asks for {gpus} GPUs, but there are {total}; "
            "lower them, or use a runtime with more"
        )
