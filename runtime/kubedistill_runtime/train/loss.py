"""Cross entropy that never holds all logits.

Logits exist for one chunk of tokens at a time, and only at positions that carry loss. The gradients are formed in the
forward pass, while the chunk's logits are at hand, so nothing is computed twice (as in Liger, arXiv 2410.10989).

Shapes: V positions with loss, C of them in a chunk, E hidden size, W vocabulary.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Head:
    """What a model does to its logits after the matrix product."""

    multiplier: float = 1.0
    softcap: float = 0.0

    @classmethod
    def of(cls, config: Any) -> "Head":
        """Reads the config's fields: Cohere multiplies, Granite divides, Gemma 2 caps."""
        multiplier = getattr(config, "logit_scale", None) or 1.0
        divisor = getattr(config, "logits_scaling", None) or 1.0
        return cls(float(multiplier) / float(divisor), float(getattr(config, "final_logit_softcapping", None) or 0.0))

    def __call__(self, logits: Tensor) -> Tensor:
        """The final logits, in fp32."""
        z = logits.float()
        if self.multiplier != 1.0:
            z = z * self.multiplier
        return self.softcap * torch.tanh(z / self.softcap) if self.softcap else z


class ChunkedCrossEntropy(torch.autograd.Function):
    """`scale` times the summed cross entropy; see `chunked_cross_entropy`."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_VE: Tensor,
        weight_WE: Tensor,
        bias_W: Tensor | None,
        target_V: Tensor,
        scale: float | Tensor,
        chunk: int,
        head: Head,
        kernel: Any,
    ) -> Tensor:
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        half = weight_WE.dtype != torch.float32
        total = hidden_VE.new_zeros((), dtype=torch.float32)
        grad_hidden_VE = torch.empty_like(hidden_VE) if needs_hidden else None
        # fp32, because half precision would round once per chunk.
        grad_weight_WE = torch.zeros_like(weight_WE, dtype=torch.float32) if needs_weight else None
        grad_bias_W = torch.zeros_like(bias_W, dtype=torch.float32) if needs_bias else None
        for start in range(0, len(target_V), chunk):
            rows = slice(start, start + chunk)
            hidden_CE = hidden_VE[rows]
            logits_CW = torch.nn.functional.linear(hidden_CE, weight_WE, bias_W)
            loss, grad_CW = kernel(logits_CW, target_V[rows], scale, head)
            total += loss
            if half:
                grad_CW = grad_CW.to(weight_WE.dtype)
            if grad_hidden_VE is not None:
                torch.mm(grad_CW, weight_WE, out=grad_hidden_VE[rows])
            if grad_weight_WE is not None:
                if not half:
                    grad_weight_WE.addmm_(grad_CW.t(), hidden_CE)
                elif grad_CW.is_cuda:
                    grad_weight_WE += torch.mm(grad_CW.t(), hidden_CE, out_dtype=torch.float32)
                else:
                    grad_weight_WE += torch.mm(grad_CW.t(), hidden_CE)
            if grad_bias_W is not None:
                grad_bias_W += grad_CW.sum(0, dtype=torch.float32)
        if grad_weight_WE is not None:
            grad_weight_WE = grad_weight_WE.to(weight_WE.dtype)
        if grad_bias_W is not None:
            grad_bias_W = grad_bias_W.to(weight_WE.dtype)
        ctx.save_for_backward(grad_hidden_VE, grad_weight_WE, grad_bias_W)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        # In place: another vocabulary x hidden matrix is not free.
        grads = [None if grad is None else grad.mul_(grad_outputs[0].to(grad.dtype)) for grad in ctx.saved_tensors]
        return *grads, None, None, None, None, None


def _loss_and_gradient(logits_CW: Tensor, target_C: Tensor, scale: float | Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """Scaled loss sum and its gradient with respect to the raw logits, in fp32."""
    z_CW = logits_CW.float()
    if head.multiplier != 1.0:
        z_CW = z_CW * head.multiplier
    if head.softcap:
        z_CW = torch.tanh(z_CW / head.softcap)
        slope_CW = 1 - z_CW.square()
        z_CW = z_CW * head.softcap
    log_p_CW = torch.log_softmax(z_CW, -1)
    index_C1 = target_C[:, None]
    loss = -scale * log_p_CW.gather(1, index_C1).sum()
    grad_CW = log_p_CW.exp_()
    grad_CW.scatter_add_(1, index_C1, grad_CW.new_full(index_C1.shape, -1.0))
    if head.softcap:
        grad_CW *= slope_CW
    return loss, grad_CW.mul_(scale * head.multiplier)


def chunked_cross_entropy(
    hidden_VE: Tensor,
    weight_WE: Tensor,
    target_V: Tensor,
    *,
    scale: float | Tensor,
    chunk: int,
    bias_W: Tensor | None = None,
    head: Head = Head(),
    compiled: bool = False,
) -> Tensor:
    """`scale` times the cross entropy summed over V positions, fp32 scalar; gradients of the same.

    `scale` is 1 / (tokens with loss in the whole global batch), so the micro-batches of all ranks add up to the mean.
    `weight_WE` must be the whole matrix: call this inside the FSDP-wrapped forward. V may be 0.
    `compiled` fuses the element-wise part, which is worth its compile time on a GPU.
    """
    kernel = _compiled_kernel() if compiled else _loss_and_gradient
    if compiled:
        # A number that differs from step to step would be compiled in, again at each step.
        scale = hidden_VE.new_full((), scale, dtype=torch.float32)
    return ChunkedCrossEntropy.apply(hidden_VE, weight_WE, bias_W, target_V, scale, chunk, head, kernel)


def token_measures(
    hidden_VE: Tensor,
    weight_WE: Tensor,
    target_V: Tensor,
    *,
    chunk: int,
    bias_W: Tensor | None = None,
    head: Head = Head(),
) -> Tensor:
    """(2, V) fp32, in nats: negative log-likelihood of each target, and entropy of the model's distribution at its
    place. Without gradients; logits exist for one chunk at a time."""
    out_2V = torch.empty((2, len(target_V)), dtype=torch.float32, device=hidden_VE.device)
    for start in range(0, len(target_V), chunk):
        rows = slice(start, start + chunk)
        log_p_CW = torch.log_softmax(head(torch.nn.functional.linear(hidden_VE[rows], weight_WE, bias_W)), -1)
        out_2V[0, rows] = -log_p_CW.gather(1, target_V[rows, None])[:, 0]
        p_CW = log_p_CW.exp()
        # A token that a model rules out has log 0, and 0 log 0 is 0.
        out_2V[1, rows] = -torch.linalg.vecdot(p_CW, log_p_CW.clamp_(min=torch.finfo(torch.float32).min))
    return out_2V


@cache
def _compiled_kernel() -> Any:
    return torch.compile(_loss_and_gradient, dynamic=True)
