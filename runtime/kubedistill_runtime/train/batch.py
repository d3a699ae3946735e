"""A micro-batch of packed examples as tensors.

Shapes: T packed tokens, V positions with loss.
"""

from collections.abc import Sequence

import numpy as np
import torch

from kubedistill_runtime.train.attention import Kernel, make_documents
from kubedistill_runtime.train.dataset import Example
from kubedistill_runtime.train.model import MicroBatch


def collate(examples: Sequence[Example], kernel: Kernel, device: torch.device, pad_to: int = 0) -> MicroBatch:
    """Lays examples end to end. A document is an example without its last token, which predicts nothing.

    With `pad_to`, padding follows as documents of their own that carry no loss, none longer than the longest real one.
    Without any example the micro-batch is one token without loss, so that a rank without work still takes its part
    in the collectives.
    """
    lengths = [example.inputs for example in examples]
    ids = [example.token_ids[:-1] for example in examples]
    starts = np.cumsum([0, *lengths])
    sources = [
        np.arange(example.prompt_tokens - 1, example.inputs) + start
        for example, start in zip(examples, starts[:-1], strict=True)
    ]
    targets = [example.token_ids[example.prompt_tokens :] for example in examples]
    missing = max(pad_to - int(starts[-1]), 0 if lengths else 1)
    while missing > 0:
        lengths.append(min(missing, max([*lengths[:1], 512])))
        ids.append(np.zeros(lengths[-1], np.int32))
        missing -= lengths[-1]

    def put(parts: list[np.ndarray]) -> torch.Tensor:
        flat = np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)
        return torch.from_numpy(flat).to(device, non_blocking=True)

    return MicroBatch(
        put(ids),
        put([np.arange(length) for length in lengths]),
        put(sources),
        put(targets),
        make_documents(lengths, kernel, device),
    )
