"""Is a response well formed?"""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kubedistill_api.curation import QualitySpec
from kubedistill_runtime.curate.types import Reason, Trace

NGRAM = 20
"""Tokens per n-gram of the repetition check, as in arXiv 2505.14464."""

_OPEN, _CLOSE = "<think>", "</think>"
_TAG = re.compile("</?think>")


def flaw(trace: Trace, spec: QualitySpec, *, prompt_opens_think: bool = False) -> Reason | None:
    """The first thing wrong with a response, or None.

    prompt_opens_think: the chat template ends the prompt with `<think>`, so that the response starts inside it.
    """
    if trace.finish_reason == "length":
        return Reason("truncated", f"cut off by the sampler after {trace.length} tokens")
    if trace.finish_reason != "stop":
        return Reason("unfinished", f"ended with finish reason {trace.finish_reason!r} instead of 'stop'")
    if spec.max_tokens is not None and trace.length > spec.max_tokens:
        return Reason("too_long", f"{trace.length} tokens, {spec.max_tokens} are allowed")
    found = thinking_flaw(_OPEN + trace.response if prompt_opens_think else trace.response, spec.think)
    if found is not None:
        return found
    if spec.max_repetition is not None:
        share = repeated_share(trace.response_token_ids)
        if share > spec.max_repetition:
            return Reason("repetitive", f"{share:.3f} of its {NGRAM}-grams repeat, {spec.max_repetition} is allowed")
    return None


def thinking_flaw(text: str, mode: Literal["strict", "any", "off"]) -> Reason | None:
    """What is wrong with the think tags of a response that includes its opening tag, or None."""
    if mode == "off":
        return None
    tags = _TAG.findall(text)
    paired = tags == [_OPEN, _CLOSE] * (len(tags) // 2)
    if mode == "strict":
        if len(tags) != 2 or not paired:
            return Reason("think_tags", f"has {' '.join(tags[:6]) or 'no think tags'} instead of one {_OPEN} {_CLOSE}")
        before, thinking, _ = _TAG.split(text)
        if before.strip():
            return Reason("think_tags", f"has text before {_OPEN}")
        if not thinking.strip():
            return Reason("empty_thinking", f"has nothing between {_OPEN} and {_CLOSE}")
    elif not paired:
        return Reason("think_tags", f"has tags that do not pair up: {' '.join(tags[:6])}")
    if not _TAG.split(text)[-1].strip():
        return Reason("empty_answer", f"has nothing after {_CLOSE}" if tags else "is empty")
    return None


def repeated_share(tokens: Sequence[int], n: int = NGRAM) -> float:
    """Share of the n-grams that occurred before in the same sequence, in [0, 1); 0 below n + 1 tokens.

    N-grams are told apart by a 64-bit hash: among 10,000 of them, two collide with a probability of about 1e-11.
    """
    total = len(tokens) - n + 1
    if total < 2:
        return 0.0
    distinct = len(np.unique(_ngram_hashes(np.asarray(tokens, dtype=np.uint64), n)))
    return 1 - distinct / total


def _ngram_hashes(tokens: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """Polynomial hashes modulo 2^64 of all windows of n tokens, built by doubling the window."""
    # SplitMix64: without mixing, small ids would make short windows of a polynomial collide.
    mixed = tokens + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    window = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    base = 0xD1342543DE82EF95
    total = len(tokens) - n + 1
    hashes, width = np.zeros(total, dtype=np.uint64), 1
    done = 0
    while True:
        if n & width:
            hashes = hashes * np.uint64(pow(base, width, 2**64)) + window[done : done + total]
            done += width
        if done == n:
            return hashes
        window = window[:-width] * np.uint64(pow(base, width, 2**64)) + window[width:]
        width *= 2
