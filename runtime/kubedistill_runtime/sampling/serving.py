"""A model made ready: its engines, its prompts as token ids, its context length."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubedistill_api.data import EngineSpec
from kubedistill_api.runtime import RoleSpec
from kubedistill_runtime.data.encoding import chat_prompt, full_response, load_tokenizer
from kubedistill_runtime.data.models import context_length
from kubedistill_runtime.engines.vllm_engine import EngineConfig
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.verify.pool import usable_cores

ROUND_LENGTH_TO = 64
"""Context lengths are multiples of this, so that a prompt more or less does not make another engine."""
SHORTEST_CONTEXT = 64


@dataclass(frozen=True)
class Wanted:
    """What a model is to be asked."""

    prompts: Sequence[str]
    max_tokens: int


@dataclass(frozen=True)
class Prompt:
    """One prompt in the model's chat template."""

    text: str
    token_ids: tuple[int, ...]


class Prompter:
    """The model's tokenizer: prompts to token ids, token ids to responses."""

    def __init__(self, path: Path, *, trust_remote_code: bool) -> None:
        self.tokenizer: Any = load_tokenizer(path, trust_remote_code=trust_remote_code)
        self._special = frozenset(self.tokenizer.all_special_ids)

    def prompt(self, text: str) -> Prompt:
        """Raises BadInput when the model has no chat template."""
        rendered, ids = chat_prompt(self.tokenizer, text)
        return Prompt(rendered, tuple(ids))

    def responses(self, prompts: Sequence[Prompt], token_ids: Sequence[Sequence[int]]) -> list[str]:
        """The responses' texts: with think tags, without the token that ended them."""
        bodies = [ids[:-1] if ids and ids[-1] in self._special else ids for ids in token_ids]
        texts = self.tokenizer.batch_decode([list(ids) for ids in bodies], skip_special_tokens=False)
        return [full_response(prompt.text, text) for prompt, text in zip(prompts, texts, strict=True)]


@dataclass(frozen=True)
class Served:
    """A model whose engines are starting."""

    pool: Any
    """A `VllmPool`, to be started."""
    prompter: Prompter
    prompts: dict[str, Prompt]
    """By the text of the user's turn."""
    max_model_len: int


def cpu_workers(role: RoleSpec) -> int:
    """Cores that are left for verifiers beside the engines of this machine."""
    cores = usable_cores()
    return cores if role.gpus_per_replica else max(1, cores // 2)


@contextmanager
def serving(
    path: Path,
    engine: EngineSpec,
    role: RoleSpec,
    wanted: Sequence[Wanted],
    *,
    trust_remote_code: bool = False,
    longest: Callable[[Prompter], int] | None = None,
) -> Iterator[Served]:
    """Starts Ray and the engines for a model; they import vLLM while the prompts are put into token ids here.

    `longest` tells how many tokens the longest request beside those `wanted` takes, with its response.

    Raises BadInput when the model has no chat template, or the engine does not fit the role's pods.
    """
    from kubedistill_runtime.engines.pool import VllmPool
    from kubedistill_runtime.engines.ray_cluster import ray_cluster

    count, gpus = engines(engine, role)

    def load() -> tuple[Prompter, dict[str, Prompt], int]:
        prompter = Prompter(path, trust_remote_code=trust_remote_code)
        texts = dict.fromkeys(text for one in wanted for text in one.prompts)
        return prompter, {text: prompter.prompt(text) for text in texts}, longest(prompter) if longest else 0

    with ThreadPoolExecutor(1) as side:
        loading = side.submit(load)
        with ray_cluster():
            pool = VllmPool(count, gpus)
            prompter, prompts, beside = loading.result()
            length = max_model_len(engine, context_length(path), wanted, prompts, beside)
            pool.configure(EngineConfig(str(path), gpus, length, _arguments(engine, trust_remote_code)))
            yield Served(pool, prompter, prompts, length)


def engines(engine: EngineSpec, role: RoleSpec) -> tuple[int, int]:
    """How many engines there are and how many GPUs each has; without GPUs one engine per pod, on its CPU.

    Raises BadInput when an engine is larger than a pod.
    """
    size = engine.tensor_parallel_size * engine.pipeline_parallel_size
    if not role.gpus_per_replica:
        if size > 1:
            raise BadInput(
                f"engine.tensorParallelSize x engine.pipelineParallelSize is {size}, but the runtime's pods have no "
                "GPUs; set gpusPerReplica in the runtime, or both sizes to 1"
            )
        return role.replicas, 0
    if size > role.gpus_per_replica:
        raise BadInput(
            f"engine.tensorParallelSize x engine.pipelineParallelSize is {size}, but a pod of the runtime has "
            f"{role.gpus_per_replica} GPUs; raise gpusPerReplica in the runtime, or lower the sizes"
        )
    return role.replicas * (role.gpus_per_replica // size), size


def max_model_len(
    engine: EngineSpec, context: int | None, wanted: Sequence[Wanted], prompts: dict[str, Prompt], beside: int = 0
) -> int:
    """The engine's context in tokens: what was asked for, else what the longest request can use of the model's.

    `beside`: tokens of the longest request that is not among those `wanted`.
    """
    if engine.max_model_len:
        return engine.max_model_len
    own = (len(prompts[text].token_ids) + one.max_tokens for one in wanted for text in one.prompts)
    longest = max((*own, beside))
    needed = max(SHORTEST_CONTEXT, -(-longest // ROUND_LENGTH_TO) * ROUND_LENGTH_TO)
    return min(context, needed) if context else needed


def _arguments(engine: EngineSpec, trust_remote_code: bool) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "tensor_parallel_size": engine.tensor_parallel_size,
        "pipeline_parallel_size": engine.pipeline_parallel_size,
        "dtype": engine.dtype,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "kv_cache_dtype": engine.kv_cache_dtype,
        "enforce_eager": engine.enforce_eager,
        "enable_prefix_caching": engine.enable_prefix_caching,
        "trust_remote_code": trust_remote_code,
    }
    if engine.max_num_seqs:
        arguments["max_num_seqs"] = engine.max_num_seqs
    if engine.tensor_parallel_size * engine.pipeline_parallel_size > 1:
        # Inside a Ray actor vLLM would ask Ray for places of its own.
        arguments["distributed_executor_backend"] = "mp"
    return arguments
