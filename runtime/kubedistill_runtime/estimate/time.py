"""How long the engines and the trainer will work, from the data sheet of the GPU.

Decoding reads the weights and the KV cache once a step, so memory bandwidth bounds it until the batch is large; prefill
and training are bound by arithmetic. The shares of the peak that are reached are assumptions, named here.
"""

from dataclasses import dataclass

from kubedistill_api.data import EngineSpec
from kubedistill_api.runtime import RoleSpec
from kubedistill_runtime.estimate.memory import Fit
from kubedistill_runtime.estimate.models import Architecture
from kubedistill_runtime.estimate.tokens import PROMPT_TOKENS, Tokens

BANDWIDTH_SHARE = 0.6
"""Of the data sheet's memory bandwidth, in decoding."""
PREFILL_SHARE = 0.5
"""Of the peak arithmetic, in prefill and in decoding of large batches."""
TRAINING_SHARE = 0.35
"""Model FLOPs utilisation of training, with recomputed layers not counted as work. Measured by others on H100: 39 %
(Qwen3-32B, torchtitan), 28 % (Qwen3-4B at 16k, prime-rl), 22 % (Qwen3-8B SFT, torchtitan)."""
ENGINE_START_S = 180
"""Loading weights, profiling and capturing graphs; once per engine."""
DEFAULT_MAX_NUM_SEQS = 256


@dataclass(frozen=True)
class Duration:
    """What a stage takes."""

    gpu_seconds: float
    wall_seconds: float
    tokens_per_second: float
    """Of all GPUs of the stage together."""


def decoding(
    tokens: Tokens, questions: int, model: Architecture, engine: EngineSpec, role: RoleSpec, fit: Fit
) -> Duration | None:
    """Drawing `tokens`. None on a CPU, or where no engine fits."""
    if not fit.engines or not fit.kv_tokens or not tokens.completion:
        return None
    gpus = engine.tensor_parallel_size * engine.pipeline_parallel_size
    bandwidth = role.gpu.memory_bandwidth_gbps * 1e9 * BANDWIDTH_SHARE * gpus
    arithmetic = role.gpu.bf16_tflops * 1e12 * PREFILL_SHARE * gpus
    # A response is on average half grown.
    grown = PROMPT_TOKENS + tokens.mean_response / 2
    batch = min(
        engine.max_num_seqs or DEFAULT_MAX_NUM_SEQS, max(1.0, fit.kv_tokens / grown), tokens.requests / fit.engines
    )
    kv = model.kv_bytes(1 if engine.kv_cache_dtype == "fp8" else 2)
    # A batch touches most experts of a mixture, so all weights are read.
    step = max(
        (model.parameters * model.weight_bytes + batch * grown * kv) / bandwidth, 2 * model.active * batch / arithmetic
    )
    rate = batch / step * fit.engines
    prompts = questions if engine.enable_prefix_caching else tokens.requests
    prefill = 2 * model.active * prompts * PROMPT_TOKENS / (arithmetic * fit.engines)
    # Towards the end fewer and fewer sequences are left: the longest runs alone, at the speed of a small batch.
    tail = tokens.mean_response * model.parameters * model.weight_bytes / bandwidth
    wall = tokens.completion / rate + prefill + tail + ENGINE_START_S
    return Duration(wall * role.gpus, wall, tokens.completion / wall)


def training(tokens: Tokens, model: Architecture, role: RoleSpec) -> Duration | None:
    """Training on `tokens` at 6 FLOPs per active parameter and token, of which a forward pass alone is 2. None on a
    CPU."""
    if role.gpus == 0:
        return None
    work = (6 * tokens.training + 2 * tokens.measured) * model.active
    wall = work / (role.gpu.bf16_tflops * 1e12 * TRAINING_SHARE * role.gpus) + ENGINE_START_S
    return Duration(wall * role.gpus, wall, tokens.training / wall)


def rate_limited(tokens: Tokens, requests_per_minute: int | None, tokens_per_minute: int | None) -> float | None:
    """Seconds that an endpoint's rate limits make the requests take; None without limits."""
    limits = [
        60 * amount / limit
        for amount, limit in (
            (tokens.requests, requests_per_minute),
            (tokens.prompt + tokens.completion, tokens_per_minute),
        )
        if limit
    ]
    return max(limits) if limits else None
