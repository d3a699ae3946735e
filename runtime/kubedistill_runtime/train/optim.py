"""AdamW over this rank's shards, the learning rate as a function of the step, and clipping by the global norm.

AdamW is element-wise, so it runs on the local tensors of FSDP's sharded parameters; the dispatch of a DTensor
optimiser would cost a small model more than the arithmetic. The state is handed out as DTensors again, for a
checkpoint that any number of ranks can load.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

if TYPE_CHECKING:
    from kubedistill_api.training import TrainingSpec


def learning_rate(spec: "TrainingSpec", step: int, total: int) -> float:
    """Rate of a step (from 0) among `total`: linear warm-up, then cosine to `min_lr_ratio`, or constant."""
    warmup = math.ceil(spec.warmup_ratio * total)
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    if spec.schedule == "constant":
        return spec.learning_rate
    progress = (step - warmup) / max(1, total - warmup)
    share = (1 + math.cos(math.pi * progress)) / 2
    return spec.learning_rate * (spec.min_lr_ratio + (1 - spec.min_lr_ratio) * share)


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Optimizer:
    """AdamW on the trainable parameters of a sharded model."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], spec: "TrainingSpec") -> None:
        self.max_grad_norm = spec.max_grad_norm
        self.parameters = {name: p for name, p in parameters.items() if p.requires_grad}
        self.shards = {name: nn.Parameter(local(p.detach())) for name, p in self.parameters.items()}
        # A rank without rows of a small parameter has nothing to step.
        present = {name: shard for name, shard in self.shards.items() if shard.numel()}
        matrices = [shard for name, shard in present.items() if self.parameters[name].ndim >= 2]
        vectors = [shard for name, shard in present.items() if self.parameters[name].ndim < 2]
        groups = [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=spec.learning_rate,
            betas=(spec.adam_beta1, spec.adam_beta2),
            eps=spec.adam_epsilon,
            fused=True,
        )
        for shard in self.shards.values():
            self.adamw.state[shard] = {
                "step": torch.zeros((), dtype=torch.float32, device=shard.device),
                "exp_avg": torch.zeros_like(shard),
                "exp_avg_sq": torch.zeros_like(shard),
            }

    def clip(self) -> Tensor:
        """Takes over the parameters' gradients and clips them. Returns the global norm before clipping."""
        for name, parameter in self.parameters.items():
            self.shards[name].grad = None if parameter.grad is None else local(parameter.grad)
            parameter.grad = None
        grads = [shard.grad for shard in self.shards.values() if shard.grad is not None]
        norm = global_norm(grads)
        torch._foreach_mul_(grads, torch.clamp(self.max_grad_norm / (norm + 1e-6), max=1.0))
        return norm

    def step(self, rate: float) -> None:
        """One step at the given rate with the clipped gradients, which it consumes."""
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        for shard in self.shards.values():
            shard.grad = None

    def state(self) -> dict[str, dict[str, Tensor]]:
        """First and second moments by parameter name, sharded as the parameters are. Views, not copies."""
        out = {}
        for name, shard in self.shards.items():
            state = self.adamw.state[shard]
            out[name] = {key: _like(self.parameters[name], state[key]) for key in ("exp_avg", "exp_avg_sq")}
        return out

    def set_steps(self, steps: int) -> None:
        """Sets the count that AdamW corrects its moments' bias by."""
        for shard in self.shards.values():
            self.adamw.state[shard]["step"].fill_(steps)


def global_norm(grads: list[Tensor]) -> Tensor:
    """Euclidean norm over the gradients of all ranks, each given its own shards."""
    square = torch.stack(torch._foreach_norm(grads)).square().sum()
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(square)
    return square.sqrt()


def _like(parameter: nn.Parameter, shard: Tensor) -> Tensor:
    if not isinstance(parameter, DTensor):
        return shard
    return DTensor.from_local(
        shard, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
    )
