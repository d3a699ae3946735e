"""Chunked cross entropy against the plain one."""

import pytest
import torch

from kubedistill_runtime.train.loss import Head, chunked_cross_entropy

V, E, W = 37, 16, 50


def inputs(dtype=torch.float32, bias=False):
    torch.manual_seed(0)
    hidden = torch.randn(V, E).to(dtype).requires_grad_()
    weight = torch.randn(W, E).to(dtype).requires_grad_()
    bias_W = torch.randn(W).to(dtype).requires_grad_() if bias else None
    return hidden, weight, bias_W, torch.randint(0, W, (V,))


def plain(hidden, weight, bias, target, scale, head=Head()):  # noqa: B008
    logits = torch.nn.functional.linear(hidden, weight, bias).float() * head.multiplier
    if head.softcap:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return scale * torch.nn.functional.cross_entropy(logits, target, reduction="sum")


@pytest.mark.parametrize("chunk", [1, 8, 37, 100])
@pytest.mark.parametrize("head", [Head(), Head(softcap=3.0), Head(multiplier=0.25)])
@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_equal_those_of_all_logits_at_once(chunk, head, bias):
    hidden, weight, bias_W, target = inputs(bias=bias)
    wanted = [x for x in (hidden, weight, bias_W) if x is not None]
    expected = plain(hidden, weight, bias_W, target, 0.1, head)
    actual = chunked_cross_entropy(hidden, weight, target, scale=0.1, chunk=chunk, bias_W=bias_W, head=head)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    # A factor behind the loss must reach the gradients that were formed in the forward pass.
    for a, b in zip(torch.autograd.grad(2 * actual, wanted), torch.autograd.grad(2 * expected, wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_half_precision_gradients_stay_within_its_rounding():
    hidden, weight, _, target = inputs(torch.bfloat16)
    expected = torch.autograd.grad(plain(hidden, weight, None, target, 1.0), (hidden, weight))
    actual = torch.autograd.grad(chunked_cross_entropy(hidden, weight, target, scale=1.0, chunk=8), (hidden, weight))
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == torch.bfloat16
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


def test_a_frozen_head_gets_no_gradient():
    hidden, weight, _, target = inputs()
    weight.requires_grad_(False)
    chunked_cross_entropy(hidden, weight, target, scale=1.0, chunk=8).backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_no_target_means_no_loss_and_zero_gradients():
    hidden, weight, _, target = inputs()
    loss = chunked_cross_entropy(hidden[:0], weight, target[:0], scale=1.0, chunk=8)
    loss.backward()
    assert loss.item() == 0
    assert weight.grad.abs().max() == 0


def test_an_extreme_logit_stays_finite():
    hidden = torch.full((2, E), 1e3, requires_grad=True)
    weight = torch.randn(W, E)
    loss = chunked_cross_entropy(hidden, weight, torch.tensor([0, 1]), scale=1.0, chunk=8)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(hidden.grad).all()
