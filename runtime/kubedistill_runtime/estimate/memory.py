"""Whether a model fits: weights and KV cache of an engine, state and activations of training.

Sums of what is held at the same time, per GPU. They are good to about `MARGIN`; a sum that close to the GPU's memory
is `tight`, not a promise either way.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from kubedistill_api.data import EngineSpec
from kubedistill_api.runtime import RoleSpec
from kubedistill_api.training import TrainingSpec
from kubedistill_runtime.estimate.models import DTYPE_BYTES, Architecture

GIB = 2**30
MARGIN = 0.1
ENGINE_OVERHEAD = 3 * GIB
"""CUDA context, graphs, activations of one prefill and the sampler's logits, beside weights and KV cache."""
TRAINER_OVERHEAD = 2 * GIB
"""CUDA context, communication buffers, and what the allocator cannot use."""
MASTER, ADAM, GRADIENT, COMPUTE = 4, 8, 4, 2
"""Bytes per parameter: fp32 master weights, Adam's two fp32 moments, fp32 gradients, bf16 for arithmetic."""
LOGIT_BYTES = 10
"""Per logit of a chunk: bf16 from the product, fp32 probabilities, and their gradient in fp32."""
LARGEST_TENSOR_PARALLEL = 8

Verdict = Literal["fits", "tight", "too big", "unknown"]


@dataclass(frozen=True)
class Fit:
    """One role's model on one kind of GPU. Sizes in bytes per GPU."""

    verdict: Verdict
    parts: dict[str, int]
    """What takes the memory."""
    available: int
    """What the GPU has for it."""
    concurrency: float | None = None
    """Engines: sequences of full length that fit at the same time."""
    kv_tokens: int | None = None
    """Engines: tokens that the KV cache of one engine holds."""
    engines: int | None = None
    """Engines: how many run side by side."""
    problem: str = ""
    fix: str = ""

    @property
    def used(self) -> int:
        return sum(self.parts.values())


def _verdict(used: float, available: float) -> Verdict:
    if used <= available * (1 - MARGIN / 2):
        return "fits"
    return "tight" if used <= available * (1 + MARGIN) else "too big"


def engine_fit(model: Architecture, engine: EngineSpec, role: RoleSpec, length: int, where: str) -> Fit:
    """An engine that serves sequences of `length` tokens. `where` is the engine's field in the manifest."""
    tensor, pipeline = engine.tensor_parallel_size, engine.pipeline_parallel_size
    need = tensor * pipeline
    fit = _engine_memory(model, engine, role, length)
    if role.gpus_per_replica == 0:
        return replace(fit, verdict="unknown", problem="runs on the CPU; memory is not checked")
    if need > role.gpus_per_replica and need > role.gpus:
        problem = f"one engine takes {need} GPUs (tensor x pipeline parallel), the role has {role.gpus}"
        fix = f"lower {where}.tensorParallelSize, or use a runtime with more GPUs"
        return replace(fit, verdict="too big", problem=problem, fix=fix)
    if model.heads % tensor:
        problem = f"{model.heads} attention heads cannot be shared by {tensor} GPUs"
        fix = f"set {where}.tensorParallelSize to a divisor of {model.heads}"
        return replace(fit, verdict="too big", problem=problem, fix=fix)
    fit = replace(fit, engines=max(1, role.gpus // need))
    if fit.verdict in ("fits", "tight") and (fit.concurrency or 0) >= 1:
        return fit
    return replace(
        fit,
        verdict="too big",
        problem=f"weights and one sequence of {length} tokens take {_gib(fit.used)} GiB of each GPU, "
        f"{_gib(fit.available)} are there",
        fix=_engine_fix(model, engine, role, length, where),
    )


def _engine_memory(model: Architecture, engine: EngineSpec, role: RoleSpec, length: int) -> Fit:
    tensor, pipeline = engine.tensor_parallel_size, engine.pipeline_parallel_size
    weight_bytes = model.weight_bytes if engine.dtype == "auto" else DTYPE_BYTES[engine.dtype]
    weights = model.parameters * weight_bytes / (tensor * pipeline)
    available = role.gpu.memory_gib * GIB * engine.gpu_memory_utilization
    # Beyond one head per GPU the heads are copied, not split; latents of DeepSeek are copied at once.
    split = min(tensor, model.kv_heads) if model.kv_values == _split_values(model) else 1
    per_token = model.kv_bytes(1 if engine.kv_cache_dtype == "fp8" else 2) / (split * pipeline)
    room = max(0.0, available - weights - ENGINE_OVERHEAD)
    parts = {
        "weights": int(weights),
        "one sequence": int(per_token * length),
        "engine": ENGINE_OVERHEAD,
    }
    return Fit(
        verdict=_verdict(sum(parts.values()), available),
        parts=parts,
        available=int(available),
        concurrency=room / per_token / length,
        kv_tokens=int(room / per_token),
    )


def _split_values(model: Architecture) -> int:
    return model.layers * 2 * model.kv_heads * model.head_dim


def _engine_fix(model: Architecture, engine: EngineSpec, role: RoleSpec, length: int, where: str) -> str:
    tensor = engine.tensor_parallel_size
    while (tensor := tensor * 2) <= LARGEST_TENSOR_PARALLEL:
        wider = engine.model_copy(update={"tensor_parallel_size": tensor})
        fit = _engine_memory(model, wider, role, length)
        if model.heads % tensor == 0 and fit.verdict == "fits" and (fit.concurrency or 0) >= 1:
            need = tensor * engine.pipeline_parallel_size
            more = f" (the runtime needs {need} GPUs per pod for it)" if need > role.gpus_per_replica else ""
            return f"set {where}.tensorParallelSize: {tensor}{more}"
    return f"lower {where}.maxModelLen, or use a runtime with larger GPUs"


def training_fit(model: Architecture, training: TrainingSpec, role: RoleSpec) -> Fit:
    """FSDP2 over all GPUs of the role: fp32 state in shards, one layer gathered, activations of one micro-batch."""
    world = max(1, role.gpus)
    parts = _training_parts(model, training, world)
    available = int(role.gpu.memory_gib * GIB)
    fit = Fit(_verdict(sum(parts.values()), available), parts, available)
    if role.gpus == 0:
        return replace(fit, verdict="unknown", problem="runs on the CPU; memory is not checked")
    if fit.verdict == "fits":
        return fit
    return replace(
        fit,
        problem=f"training takes about {_gib(fit.used)} GiB of each of {world} GPUs, {_gib(available)} are there",
        fix=_training_fix(model, training, role),
    )


def _training_parts(model: Architecture, training: TrainingSpec, world: int) -> dict[str, int]:
    tokens = training.packed_tokens
    compute = 4 if training.precision == "fp32" else COMPUTE
    embedding = model.vocab * model.hidden * (1 if model.tied else 2)
    layer = (model.parameters - embedding) / model.layers
    trained = model.parameters
    frozen = 0.0
    if training.lora:
        # Two thin matrices beside each of the about 7 linear modules of a layer.
        trained = int(training.lora.rank * model.layers * (9 * model.hidden + 3 * model.intermediate))
        frozen = model.parameters * compute / world
    shards = frozen + trained * (MASTER + ADAM + GRADIENT) / world
    gathered = (2 * layer + embedding) * compute if world > 1 else 0.0
    reduced = 0.0 if training.lora else (layer * GRADIENT if world > 1 else 0.0) + embedding * compute
    kept = _kept_activations(model, training) * tokens * compute
    worked_on = _layer_values(model) * tokens * compute * 1.5
    logits = min(training.loss_chunk_tokens, tokens) * model.vocab * LOGIT_BYTES
    # The loss comes before the backward pass: the two working sets are never there at the same time.
    return {
        "optimiser state": int(shards),
        "gathered weights": int(gathered + reduced),
        "activations": int(kept + max(worked_on, logits)),
        "trainer": TRAINER_OVERHEAD,
    }


def _layer_values(model: Architecture) -> float:
    """Values that one token leaves in one layer for its backward pass, with flash attention."""
    attention = model.head_dim * (2 * model.heads + 2 * model.kv_heads)
    # Mixtures of experts work on the experts that a token passes.
    dense = 3 * model.hidden * model.intermediate or 1
    share = max(1.0, model.active / model.layers / dense) if model.active < model.parameters else 1.0
    return 4 * model.hidden + attention + 4 * model.intermediate * share


def _kept_activations(model: Architecture, training: TrainingSpec) -> float:
    """Values that one token keeps over all layers from the forward to the backward pass."""
    match training.activation_checkpointing:
        case "full":
            return model.layers * model.hidden
        case "selective":
            return model.layers * _layer_values(model) / 2
    return model.layers * _layer_values(model)


def _training_fix(model: Architecture, training: TrainingSpec, role: RoleSpec) -> str:
    available = role.gpu.memory_gib * GIB

    def fits(spec: TrainingSpec, world: int) -> bool:
        return _verdict(sum(_training_parts(model, spec, world).values()), available) == "fits"

    fixes: list[str] = []
    if training.activation_checkpointing != "full":
        fuller = training.model_copy(update={"activation_checkpointing": "full"})
        if fits(fuller, role.gpus):
            fixes.append("set spec.training.activationCheckpointing: full")
    world = role.gpus
    while world < 1024 and not fits(training, world):
        world *= 2
    if fits(training, world):
        fixes.append(f"use a runtime whose trainer has {world} of these GPUs")
    length = training.context_length
    if training.packed_tokens > length:
        tighter = training.model_copy(update={"micro_batch_tokens": length})
        if fits(tighter, role.gpus):
            fixes.append(f"set spec.training.microBatchTokens: {length}")
    while length > 2048 and not fits(_shorter(training, length), role.gpus):
        length //= 2
    if length < training.context_length and fits(_shorter(training, length), role.gpus):
        fixes.append(f"lower spec.training.contextLength to {length}")
    if training.lora is None:
        fixes.append("train adapters instead (spec.training.lora: {})")
    return ", or ".join(fixes)


def _shorter(training: TrainingSpec, length: int) -> TrainingSpec:
    return training.model_copy(update={"context_length": length, "micro_batch_tokens": None})


def _gib(size: float) -> str:
    return str(math.ceil(size / GIB))
