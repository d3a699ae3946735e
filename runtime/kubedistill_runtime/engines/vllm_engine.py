"""A vLLM engine in a Ray actor: token ids in, token ids out, single requests added and aborted while it runs.

The engine is stepped by a thread of the actor. On the CPU it lives in the actor's own process, which starts in
seconds where vLLM's default, processes of its own that each import everything again, takes a minute; on GPUs the
default overlaps scheduling with the model's work. vLLM is imported here only, and not before the actor runs.
"""

import gc
import json
import os
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kubedistill_api.data import ModelSource
from kubedistill_runtime.engines.base import Completion, FinishReason, Request
from kubedistill_runtime.estimate.models import DTYPE_BYTES, architecture
from kubedistill_runtime.sampling.concurrency import Load
from kubedistill_runtime.verify.pool import usable_cores

GATHER_SHARE = 0.125
"""A poll that has something waits until it has this share of the batch: a call of Ray takes about a millisecond of the
engine's time. Half of the queue's slack, so that no place stays empty meanwhile; a small batch does not wait."""
GATHER_S = 0.25
"""But it waits no longer than this."""
POLL_S = 5.0
"""A poll that has nothing returns after this long, so that the driver sees the engine's load."""
LEAVE_S = 30.0
"""An engine that died waits this long for the driver to read why."""
MESSAGE_CHARS = 600
"""An engine's error is cut to this: some of vLLM's print every setting there is."""
CPU_MAX_NUM_SEQS = 256
"""vLLM's own default where it finds no GPU."""
CPU_KV_BYTES = 4 * 2**30
"""KV cache on the CPU at most."""
CPU_KV_SHARE = 0.25
"""Share of the machine's free memory that the KV cache takes on the CPU at most."""
CPU_KV_BLOCK = 128
"""Tokens of one block on the CPU."""

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "WARNING"}


@dataclass(frozen=True)
class EngineConfig:
    """What vLLM is told; names as in `vllm.EngineArgs`."""

    model: str
    gpus: int
    """0 runs on the CPU."""
    max_model_len: int
    arguments: dict[str, Any]
    """The fields of EngineSpec that the user gave, or that vLLM has no default for."""


@dataclass(frozen=True)
class EngineInfo:
    """What the driver has to know of an engine that is ready."""

    max_num_seqs: int
    kv_tokens: int
    """Tokens that fit into the KV cache."""
    pid: int


@dataclass(frozen=True)
class Failure:
    """Why an engine cannot go on. Returned, not raised: errors of other packages do not always survive a pickle."""

    message: str
    bad_input: bool
    """What the user gave is at fault."""


@dataclass(frozen=True)
class Polled:
    """Answer to one poll."""

    completions: list[Completion]
    load: Load
    """Preemptions and finished ones since the last poll."""


class VllmEngine:
    """The actor. `configure` once, then `submit`, `abort`, `poll` and, between requests, `load` from any thread."""

    def __init__(self, cpu_share: int | None) -> None:
        """`cpu_share`: how many engines share the machine's cores; None for an engine on GPUs."""
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        if cpu_share is not None:
            # Not vLLM's multiprocess mode; and Ray sets one thread where an actor asks for no CPUs.
            os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
            # One core is left to the driver and the verifiers.
            os.environ["OMP_NUM_THREADS"] = str(max(1, usable_cores() // cpu_share - 1))
        self._changed = threading.Condition()
        self._config: EngineConfig | None = None
        self._info: EngineInfo | None = None
        self._failure: Failure | None = None
        self._added: list[Request] = []
        self._aborted: list[str] = []
        self._completions: list[Completion] = []
        self._kv_usage, self._running, self._waiting = 0.0, 0, 0
        self._preemptions = self._finished = 0
        threading.Thread(target=self._main, name="engine", daemon=True).start()

    def configure(self, config: EngineConfig) -> EngineInfo | Failure:
        """Loads the model; returns when requests can be served."""
        with self._changed:
            self._config = config
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._info is not None or self._failure is not None)
            return self._failure or self._ready()

    def load(self, model: str) -> Failure | None:
        """Serves another model in the place of this one; returns when it can. No request may be under way.

        The engine is made anew in this process, where everything is imported already. vLLM's reloading of weights in
        place is not used: on the CPU it leaves parts of the model before, and the answers are those of neither.
        """
        with self._changed:
            assert self._config is not None
            self._config, self._info = replace(self._config, model=model), None
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._info is not None or self._failure is not None)
            return self._failure

    def submit(self, requests: Sequence[Request]) -> None:
        with self._changed:
            self._added.extend(requests)
            self._changed.notify_all()

    def abort(self, ids: Sequence[str]) -> None:
        with self._changed:
            self._aborted.extend(ids)
            self._changed.notify_all()

    def poll(self) -> Polled | Failure:
        """What ended since the last poll; waits for something to say."""
        with self._changed:
            self._changed.wait_for(lambda: self._completions or self._failure is not None, POLL_S)
            if self._completions:
                self._changed.wait_for(
                    lambda: len(self._completions) >= GATHER_SHARE * self._running or self._failure is not None,
                    GATHER_S,
                )
            if self._failure is not None:
                return self._failure
            completions, self._completions = self._completions, []
            load = Load(self._kv_usage, self._running, self._waiting, self._preemptions, self._finished)
            self._preemptions = self._finished = 0
            return Polled(completions, load)

    def _ready(self) -> EngineInfo:
        assert self._info is not None
        return self._info

    def _main(self) -> None:
        """One engine after the other, each until another model is asked for."""
        while True:
            try:
                engine = self._build()
            except Exception as error:
                # vLLM refuses what it is given with ValueError (of which pydantic's is one) and missing files with
                # OSError.
                self._fail(error, bad_input=isinstance(error, (ValueError, OSError)))
                return
            try:
                self._serve(engine)
                engine.engine_core.shutdown()
            except Exception as error:
                self._fail(error, bad_input=False)
                return
            del engine
            gc.unfreeze()
            gc.collect()

    def _fail(self, error: Exception, *, bad_input: bool) -> None:
        traceback.print_exc()
        with self._changed:
            self._failure = Failure(_told(error), bad_input)
            self._changed.notify_all()
        time.sleep(LEAVE_S)
        os._exit(1)  # a live actor with a dead engine would be asked again and again

    def _build(self) -> Any:
        import vllm
        from vllm.v1.engine.llm_engine import LLMEngine
        from vllm.v1.metrics.loggers import StatLoggerBase

        outer = self

        class Gauges(StatLoggerBase):
            def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
                pass

            def log_engine_initialized(self) -> None:
                pass

            def record(self, scheduler_stats: Any, iteration_stats: Any, *args: Any, **kwargs: Any) -> None:
                if scheduler_stats is not None:
                    outer._kv_usage = scheduler_stats.kv_cache_usage
                    outer._running = scheduler_stats.num_running_reqs
                    outer._waiting = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
                    outer._preemptions += scheduler_stats.prefix_cache_stats.preempted_requests

        with self._changed:
            self._changed.wait_for(lambda: self._config is not None)
            config = self._config
        assert config is not None
        arguments = dict(config.arguments)
        if not config.gpus:
            arguments |= cpu_arguments(config)
            inspect_here(config.model)
        engine = LLMEngine.from_engine_args(
            vllm.EngineArgs(
                model=config.model, max_model_len=config.max_model_len, disable_log_stats=False, **arguments
            ),
            stat_loggers=[Gauges],
        )
        # The scheduler's statistics are wanted, those of every single token are not: they cost a loop in Python.
        engine.log_stats = False
        # What is there now stays; the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        cache = engine.vllm_config.cache_config
        info = EngineInfo(
            max_num_seqs=engine.vllm_config.scheduler_config.max_num_seqs,
            kv_tokens=(cache.num_gpu_blocks or 0) * cache.block_size,
            pid=os.getpid(),
        )
        with self._changed:
            self._info = info
            self._changed.notify_all()
        return engine

    def _serve(self, engine: Any) -> None:
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        since: dict[str, float] = {}
        scored: dict[str, int] = {}
        while True:
            with self._changed:
                if not engine.has_unfinished_requests():
                    self._running = self._waiting = 0
                    self._changed.wait_for(lambda: self._added or self._info is None)
                    if self._info is None:
                        return
                added, self._added = self._added, []
                aborted, self._aborted = self._aborted, []
            for request in added:
                draw = request.draw
                engine.add_request(
                    request.id,
                    TokensPrompt(prompt_token_ids=list(request.prompt_token_ids)),
                    SamplingParams(
                        temperature=draw.temperature,
                        top_p=draw.top_p,
                        top_k=draw.top_k,
                        max_tokens=draw.max_tokens,
                        seed=draw.seed,
                        stop=list(draw.stop),
                        detokenize=bool(draw.stop),
                        prompt_logprobs=None if request.score_from is None else 0,
                        output_kind=RequestOutputKind.FINAL_ONLY,
                    ),
                )
                since[request.id] = time.monotonic()
                if request.score_from is not None:
                    scored[request.id] = request.score_from
            known = [name for name in aborted if since.pop(name, None) is not None]
            if known:
                engine.abort_request(known)
            ended = []
            for output in engine.step():
                started = since.pop(output.request_id, None)
                if started is None:
                    continue
                (sequence,) = output.outputs
                ids = tuple(sequence.token_ids)
                logprobs, likeliest = _scores(output, scored.pop(output.request_id, None))
                ended.append(
                    Completion(
                        id=output.request_id,
                        finish_reason=_finish_reason(sequence.finish_reason),
                        token_ids=ids,
                        error=None if sequence.finish_reason in ("stop", "length") else str(sequence.finish_reason),
                        latency_seconds=time.monotonic() - started,
                        prompt_tokens=len(output.prompt_token_ids or ()),
                        completion_tokens=len(ids),
                        logprobs=logprobs,
                        likeliest=likeliest,
                    )
                )
            if ended:
                with self._changed:
                    self._completions.extend(ended)
                    self._finished += len(ended)
                    self._changed.notify_all()


def _scores(output: Any, start: int | None) -> tuple[tuple[float, ...], bool]:
    """The logarithms of the probabilities of the prompt's tokens from `start` on, and whether all are the likeliest."""
    if start is None:
        return (), True
    places = zip(output.prompt_token_ids[start:], output.prompt_logprobs[start:], strict=True)
    found = [place[token] for token, place in places]
    return tuple(one.logprob for one in found), all(one.rank == 1 for one in found)


def _told(error: Exception) -> str:
    """What an error says, without the web pages and settings that pydantic and vLLM print with it."""
    errors = getattr(error, "errors", None)
    text = str(errors()[0]["msg"]) if callable(errors) else str(error)
    return f"{type(error).__name__}: {text[:MESSAGE_CHARS]}"


def _finish_reason(reason: str | None) -> FinishReason:
    return reason if reason in ("stop", "length") else "error"  # type: ignore[return-value]


def cpu_arguments(config: EngineConfig) -> dict[str, Any]:
    """What an engine on the CPU is told beside or instead of the configuration's arguments, for `vllm.EngineArgs`."""
    # Where the CPU has no instructions for it, bfloat16 takes twice the time, and traces must not depend on that.
    dtype = "float32" if config.arguments["dtype"] == "auto" else config.arguments["dtype"]
    return {
        "dtype": dtype,
        # There are no CUDA graphs to capture, and compiling takes longer than it saves.
        "enforce_eager": True,
        # vLLM 0.32 dies on the CPU when a prefill is cut in two for a request that has its own seed: it takes back the
        # draw of the first part with Generator.set_offset, which the CPU's generator does not have.
        "enable_chunked_prefill": False,
        "kv_cache_memory_bytes": _cpu_kv_bytes(config, DTYPE_BYTES[dtype]),
    }


def inspect_here(model: str) -> None:
    """Tells vLLM what the model of this folder can do. It would ask a process of its own, so as not to touch CUDA in
    this one, and that imports everything once more: a third of the start."""
    from vllm import ModelRegistry

    config = Path(model) / "config.json"
    if not config.is_file():
        return
    for name in json.loads(config.read_text()).get("architectures") or ():
        if known := ModelRegistry.models.get(name):
            ModelRegistry.register_model(name, known.load_model_cls())


def _cpu_kv_bytes(config: EngineConfig, value_bytes: int) -> int:
    """Room for the largest batch, but not more: vLLM writes zeros to all of it, which takes time."""
    import psutil

    most = min(CPU_KV_BYTES, int(CPU_KV_SHARE * psutil.virtual_memory().available))
    model = architecture(ModelSource(uri=f"file://{config.model}"))
    if model is None:
        return most
    sequences = config.arguments.get("max_num_seqs", CPU_MAX_NUM_SEQS)
    # One block is vLLM's own, and one more per sequence keeps the blocks of prompts that others share.
    blocks = sequences * (-(-config.max_model_len // CPU_KV_BLOCK) + 1) + 1
    return min(most, blocks * CPU_KV_BLOCK * model.kv_bytes(value_bytes))
