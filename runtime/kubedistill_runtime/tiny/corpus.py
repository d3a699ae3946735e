"""An endless, seeded stream of batches of prompts and traces."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from .task import LEVELS, benchmark_questions, draw_question, render_trace, train_questions
from .tokenizer import render_prompt

IGNORED = -100
# Two terms are never asked, but they teach one step.
CORPUS_LEVELS = range(2, LEVELS.stop)
# Batches that are drawn together and sorted by length, so that little padding is left.
BUCKET = 16


@dataclass(frozen=True)
class Mixture:
    """How traces are written: (share, slip) per style; ``slip`` is the chance of an error per step."""

    styles: Mapping[str, tuple[float, float]]


def draw_batches(
    tokenizer: PreTrainedTokenizerFast, mixture: Mixture, batch_size: int, rng: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields input_ids and labels, both int64 [batch_size, longest trace of the batch].

    Rows are padded on the right; labels are IGNORED on the prompt and on the padding. No question of the train pool or
    of the benchmark is drawn.
    """
    held_out = {*train_questions(), *benchmark_questions()}
    names = list(mixture.styles)
    shares = [mixture.styles[name][0] for name in names]

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    def draw() -> tuple[list[int], int]:
        question = draw_question(rng, rng.choice(CORPUS_LEVELS))
        while question in held_out:
            question = draw_question(rng, rng.choice(CORPUS_LEVELS))
        style = rng.choices(names, shares)[0]
        trace = render_trace(question, style, rng, mixture.styles[style][1])
        prompt_ids = encode(render_prompt(question.text))
        return prompt_ids + encode(trace + tokenizer.eos_token), len(prompt_ids)

    while True:
        rows = sorted((draw() for _ in range(BUCKET * batch_size)), key=lambda row: len(row[0]))
        starts = list(range(0, len(rows), batch_size))
        rng.shuffle(starts)
        for start in starts:
            yield _pad(rows[start : start + batch_size], tokenizer.pad_token_id)


def _pad(rows: list[tuple[list[int], int]], pad_id: int) -> tuple[Tensor, Tensor]:
    longest = max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), longest), pad_id)
    labels = torch.full((len(rows), longest), IGNORED)
    for row, (ids, prompt_length) in enumerate(rows):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels[row, prompt_length : len(ids)] = torch.tensor(ids[prompt_length:])
    return input_ids, labels
