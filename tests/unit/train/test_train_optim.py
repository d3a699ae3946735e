"""Schedule, AdamW over shards, clipping."""

import pytest
import torch
from pydantic import ValidationError

from kubedistill_api.training import TrainingSpec
from kubedistill_runtime.train.optim import Optimizer, learning_rate


def rates(total, **fields):
    spec = TrainingSpec(learning_rate=1.0, **fields)
    return [learning_rate(spec, step, total) for step in range(total)]


def test_the_rate_rises_linearly_then_falls_as_a_cosine():
    values = rates(20, warmup_ratio=0.2)
    assert values[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert values[12] == pytest.approx(0.5)
    assert values[4:] == sorted(values[4:], reverse=True)
    assert 0 < values[-1] < 0.02


def test_the_cosine_ends_at_its_least_ratio_and_a_constant_stays():
    assert rates(1000, warmup_ratio=0.0, min_lr_ratio=0.1)[-1] == pytest.approx(0.1, abs=1e-4)
    assert rates(10, warmup_ratio=0.0, schedule="constant") == [1.0] * 10


def test_a_run_of_one_step_trains():
    assert rates(1) == [1.0]


def test_steps_equal_those_of_torch_with_clipping():
    torch.manual_seed(0)
    spec = TrainingSpec(learning_rate=0.1, weight_decay=0.1, max_grad_norm=0.5)
    ours = {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in {"matrix": (4, 3), "vector": (3,)}.items()}
    theirs = {name: torch.nn.Parameter(p.detach().clone()) for name, p in ours.items()}
    reference = torch.optim.AdamW(
        [{"params": [theirs["matrix"]], "weight_decay": 0.1}, {"params": [theirs["vector"]], "weight_decay": 0.0}],
        lr=0.1,
    )
    optimizer = Optimizer(ours, spec)
    for _ in range(3):
        for name, parameter in ours.items():
            parameter.grad = torch.randn_like(parameter)
            theirs[name].grad = parameter.grad.clone()
        norm = optimizer.clip()
        optimizer.step(0.1)
        assert norm.item() == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs.values(), 0.5).item())
        reference.step()
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter, theirs[name])


def test_frozen_parameters_have_no_state():
    parameters = {"a": torch.nn.Parameter(torch.ones(2)), "b": torch.nn.Parameter(torch.ones(2), requires_grad=False)}
    assert set(Optimizer(parameters, TrainingSpec()).state()) == {"a"}


def test_a_micro_batch_holds_the_longest_trace():
    assert TrainingSpec(context_length=100).packed_tokens == 4096
    assert TrainingSpec(context_length=16384).packed_tokens == 16384
    with pytest.raises(ValidationError, match="never split"):
        TrainingSpec(context_length=100, micro_batch_tokens=99)
