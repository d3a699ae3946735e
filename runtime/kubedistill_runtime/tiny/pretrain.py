"""Trains a tiny model from scratch, after its recipe."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3ForCausalLM

from .accuracy import accuracy, sample_traces
from .corpus import IGNORED, draw_batches
from .muon import Muon
from .recipe import Phase, Recipe
from .task import draw_questions

WARMUP = 30
FLOOR = 0.05
CLIP = 1.0
REPORT_EVERY = 50
CHECK_EVERY = 200


@dataclass(frozen=True)
class Progress:
    """One line of progress; ``accuracy`` (avg@2 at temperature 1, 60 questions) is measured only now and then."""

    step: int
    steps: int
    loss: float
    accuracy: float | None
    seconds_left: float


def schedule(step: int, steps: int) -> float:
    """The factor on the learning rate: linear warmup, then a cosine down to FLOOR."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    done = (step - WARMUP) / max(1, steps - WARMUP)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done))


def response_loss(model: Qwen3ForCausalLM, input_ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy per response token; both arguments are int64 [batch, length].

    Needs no attention mask: padding is on the right, where causal attention does not look.
    """
    logits = model(input_ids=input_ids[:, :-1], use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


def optimizers(model: Qwen3ForCausalLM, phase: Phase) -> list[torch.optim.Optimizer]:
    params = dict(model.named_parameters())
    matrices = [param for name, param in params.items() if param.ndim == 2 and "embed" not in name]
    if phase.matrix_lr is None:
        return [torch.optim.AdamW(params.values(), lr=phase.lr, betas=(0.9, 0.98), weight_decay=0.0)]
    others = [param for name, param in params.items() if param.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=phase.matrix_lr),
        torch.optim.AdamW(others, lr=phase.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def pretrain(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, report: Callable[[Progress], None] | None = None
) -> Qwen3ForCausalLM:
    """The trained model in float32; the same recipe gives the same weights on the same machine and thread count.

    ``report`` is called every REPORT_EVERY steps and after the last one.
    """
    torch.manual_seed(recipe.seed)
    model = Qwen3ForCausalLM(recipe.config(tokenizer))
    rng = random.Random(recipe.seed)
    total, done, started = sum(phase.steps for phase in recipe.phases), 0, time.monotonic()
    for phase in recipe.phases:
        batches = draw_batches(tokenizer, phase.mixture, recipe.batch_size, rng)
        pair = optimizers(model, phase)
        schedulers = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step, steps=phase.steps: schedule(step, steps))
            for optimizer in pair
        ]
        model.train()
        for _ in range(phase.steps):
            loss = response_loss(model, *next(batches))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            for optimizer, scheduler in zip(pair, schedulers, strict=True):
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
            done += 1
            if report and (done % REPORT_EVERY == 0 or done == total):
                checked = quick_accuracy(model, tokenizer) if done % CHECK_EVERY == 0 or done == total else None
                seconds_left = (time.monotonic() - started) / done * (total - done)
                report(Progress(done, total, loss.item(), checked, seconds_left))
    return model


def quick_accuracy(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> float:
    value = accuracy(sample_traces(model, tokenizer, draw_questions(seed=3, per_level=10), samples=2))
    model.train()
    return value


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes bfloat16 weights, config, generation config and tokenizer, readable by every user."""
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
