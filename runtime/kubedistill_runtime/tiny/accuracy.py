"""How often a model's sampled answers are right, by plain transformers generation."""

import re
from collections.abc import Iterable
from itertools import groupby

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from .task import Question
from .tokenizer import render_prompt

MAX_NEW_TOKENS = 128
BOXED = re.compile(r"\\boxed\{(-?\d+)\}")


def boxed_answer(text: str) -> int | None:
    """The integer in the last ``\\boxed{}``, or None."""
    found = BOXED.findall(text)
    return int(found[-1]) if found else None


@torch.no_grad()
def sample_traces(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    questions: Iterable[Question],
    samples: int,
    seed: int = 0,
) -> dict[Question, list[str]]:
    """``samples`` responses to each question at temperature 1, without special tokens.

    Questions of one level have prompts of one length, so they share a batch without padding.
    """
    torch.manual_seed(seed)
    model.eval()
    traces: dict[Question, list[str]] = {}
    for _, level in groupby(sorted(questions, key=lambda q: len(q.terms)), key=lambda q: len(q.terms)):
        same_length = list(level)
        prompt_ids = tokenizer([render_prompt(q.text) for q in same_length], return_tensors="pt").input_ids
        output_ids = model.generate(
            prompt_ids,
            attention_mask=torch.ones_like(prompt_ids),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            num_return_sequences=samples,
            max_new_tokens=MAX_NEW_TOKENS,
        )
        texts = tokenizer.batch_decode(output_ids[:, prompt_ids.size(1) :], skip_special_tokens=True)
        for row, question in enumerate(same_length):
            traces[question] = texts[row * samples : (row + 1) * samples]
    return traces


def accuracy(traces: dict[Question, list[str]]) -> float:
    """The share of right answers over all traces: avg@k for k traces a question."""
    right = [boxed_answer(text) == question.answer for question, texts in traces.items() for text in texts]
    return sum(right) / len(right)
