"""FSDP2 around an untouched model: materialise, checkpoint activations, compile and shard, unit by unit.

Rank 0 holds the pretrained weights on its CPU, the other ranks an empty model. One unit at a time goes to the device in
full precision, is broadcast, and is sharded on the spot, so no device ever holds more than its shards and one unit.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

UNIT_BYTES_MIN = 32 * 2**20
"""Consecutive layers are sharded as one unit up to this size. Gathering less costs more in hooks and launches than it
saves in memory: 7 % of a step for three layers of 0.4 MB on a CPU, against 1.5 % as one unit."""

UNREDUCED_BYTES_MAX = 2 * 2**30
"""Up to this size the gradients of a step wait on each rank for its last micro-batch, and are reduced once. They wait
unsharded and in fp32, at the size of the whole model: 131 GB for 32B parameters, which no GPU has to spare."""


@dataclass(frozen=True)
class World:
    """This process among the others."""

    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh

    @property
    def is_first(self) -> bool:
        """The rank that writes files and holds the pretrained weights."""
        return self.rank == 0


def join_world(device: Literal["auto", "cpu", "cuda"], cores: int | None = None) -> World:
    """Joins the processes that torchrun started; without torchrun, makes a world of one.

    Sets the threads of a CPU process to its share of the cores. Call `leave_world` at the end.
    """
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    where = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(where)
    else:
        torch.set_num_threads(max(1, (cores or len(os.sched_getaffinity(0))) // local_size))
    # Checkpoints are written from the CPU, so gloo is there beside NCCL.
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    if size > 1:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return World(rank, size, where, init_device_mesh(where.type, (size,)))


def leave_world() -> None:
    """Ends the process group."""
    dist.destroy_process_group()


def shard(
    objective: nn.Module,
    layers: Sequence[nn.Module],
    world: World,
    *,
    compute_dtype: torch.dtype,
    checkpointing: Literal["none", "full", "selective"] = "none",
    compiled: bool = False,
) -> FSDPModule:
    """Materialises, broadcasts and shards `objective` in place; returns it.

    Trainable parameters become fp32 shards (the master weights), frozen ones stay in `compute_dtype`. Gradients are
    summed over ranks, not averaged: the loss is already divided by the tokens of the whole global batch.
    """
    policy = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32)
    done: set[nn.Module] = set()
    groups = list(_units(layers, UNIT_BYTES_MIN))
    for group in groups if len(groups) > 1 else []:
        for layer in group:
            _materialise(layer, world, compute_dtype, done)
            _prepare(layer, checkpointing, compiled)
        fully_shard(list(group), mesh=world.mesh, mp_policy=policy, reshard_after_forward=world.size > 1)
    if len(groups) == 1:
        for layer in layers:
            _prepare(layer, checkpointing, compiled)
    _materialise(objective, world, compute_dtype, done)
    objective.model.tie_weights()
    # The root's parameters open the backward pass, so resharding them after forward would only gather them twice.
    root = fully_shard(objective, mesh=world.mesh, mp_policy=policy, reshard_after_forward=False)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # gloo knows neither an average nor a premultiplied sum.
            module.set_force_sum_reduction_for_comms(True)
    if world.size > 1:
        _prefetch([group[0] for group in groups if isinstance(group[0], FSDPModule)])
    return root


def accumulate(root: FSDPModule, last: bool) -> None:
    """Before each micro-batch: whether its backward pass reduces the gradients over ranks, or leaves that to the last.

    The result is the same. The loss of a micro-batch is its share of the whole step's, and a reduction is a sum.
    """
    unreduced = sum(4 * p.numel() for p in root.parameters() if p.requires_grad)
    root.set_requires_gradient_sync(last or unreduced > UNREDUCED_BYTES_MAX)


def _units(layers: Sequence[nn.Module], least: int) -> Iterator[tuple[nn.Module, ...]]:
    unit: list[nn.Module] = []
    size = 0
    for layer in layers:
        unit.append(layer)
        size += sum(4 * p.numel() for p in layer.parameters())
        if size >= least:
            yield tuple(unit)
            unit, size = [], 0
    if unit:
        yield tuple(unit)


def _materialise(module: nn.Module, world: World, compute_dtype: torch.dtype, done: set[nn.Module]) -> None:
    """Moves to the device and fills from rank 0 every parameter and buffer below `module` not in `done`."""
    for child in module.modules():
        if child in done:
            continue
        done.add(child)
        for name, parameter in child.named_parameters(recurse=False):
            dtype = torch.float32 if parameter.requires_grad else compute_dtype
            tensor = _fill(parameter.detach(), world, dtype)
            setattr(child, name, nn.Parameter(tensor, requires_grad=parameter.requires_grad))
        for name, buffer in child.named_buffers(recurse=False):
            child._buffers[name] = _fill(buffer, world, buffer.dtype)


def _fill(source: torch.Tensor, world: World, dtype: torch.dtype) -> torch.Tensor:
    if source.is_meta:
        tensor = torch.empty_like(source, device=world.device, dtype=dtype)
    else:
        tensor = source.to(world.device, dtype).contiguous()
    if world.size > 1:
        dist.broadcast(tensor, 0)
    return tensor


def _prepare(layer: nn.Module, checkpointing: str, compiled: bool) -> None:
    # Compiled is the function that checkpoints, not the layer: FSDP's hooks end a graph, and what is then traced on its
    # own is torch's checkpoint function, which the compiler skips together with everything below it.
    forward = layer.forward
    if checkpointing != "none":
        forward = _recomputed(forward, checkpointing)
    layer.forward = torch.compile(forward) if compiled else forward


def _recomputed(forward: Callable[..., Any], checkpointing: str) -> Callable[..., Any]:
    context: dict[str, Any] = {"context_fn": _selective_contexts} if checkpointing == "selective" else {}

    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **context, **kwargs)

    return run


def _prefetch(units: Sequence[FSDPModule]) -> None:
    """Gathers the next unit while this one computes, forwards and backwards."""
    for unit, after in pairwise(units):
        unit.set_modules_to_forward_prefetch([after])
        after.set_modules_to_backward_prefetch([unit])


def _selective_contexts() -> Any:
    """Keeps attention outputs and every second matrix product; recomputes the rest.

    The same trade as torchtitan's selective checkpointing: attention is the dearest to recompute per byte kept.
    """
    aten = torch.ops.aten
    attention = {
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        *_named_ops("torch_attn::_varlen_attn", "flash_attn::_flash_attn_varlen_forward"),
    }
    products = {aten.mm.default, aten.addmm.default, aten.linear.default}
    seen = {True: 0, False: 0}

    def policy(context: Any, op: Any, *_: Any, **__: Any) -> CheckpointPolicy:
        if op in attention:
            return CheckpointPolicy.MUST_SAVE
        if op in products:
            seen[context.is_recompute] += 1
            return CheckpointPolicy.MUST_SAVE if seen[context.is_recompute] % 2 else CheckpointPolicy.PREFER_RECOMPUTE
        return CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


def _named_ops(*names: str) -> list[Any]:
    found = []
    for name in names:
        namespace, op = name.split("::")
        if hasattr(torch.ops, namespace) and hasattr(getattr(torch.ops, namespace), op):
            found.append(getattr(getattr(torch.ops, namespace), op).default)
    return found
