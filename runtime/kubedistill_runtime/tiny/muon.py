"""Muon for CPUs: momentum whose update is orthogonalised, one matrix shape at a time.

``torch.optim.Muon`` orthogonalises in bfloat16, which a CPU without bfloat16 instructions emulates, many times slower
than float32. Algorithm and coefficients: https://kellerjordan.github.io/posts/muon/.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.775, 2.0315)
ITERATIONS = 5


def orthogonalise(update_NRC: Tensor) -> Tensor:  # noqa: N803
    """A roughly semi-orthogonal matrix near each of N matrices [rows, columns], by Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = update_NRC.size(1) > update_NRC.size(2)
    x = update_NRC.mT if tall else update_NRC
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay; every parameter is a matrix."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.9, weight_decay: float = 0.01):
        params = list(params)
        shapes = sorted({tuple(param.shape) for param in params})
        groups = [{"params": [param for param in params if tuple(param.shape) == shape]} for shape in shapes]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            params, momentum = group["params"], group["momentum"]
            gradients = torch.stack([param.grad for param in params])
            state = self.state[params[0]]
            average = state.setdefault("average", torch.zeros_like(gradients))
            average.lerp_(gradients, 1 - momentum)
            rows, columns = gradients.shape[1:]
            rate = group["lr"] * max(1, rows / columns) ** 0.5
            for param, update in zip(params, orthogonalise(gradients.lerp(average, momentum)), strict=True):
                param.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)
