"""Attention over packed documents.

A micro-batch is one row of documents laid end to end. `packed_attention` is registered with transformers' attention
interface, so that any model which routes its attention there computes it per document, without a T x T mask. The
documents travel through the model's forward as the keyword `documents`.

Shapes: B = 1, H query heads, K key-value heads, T tokens, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from kubedistill_runtime.errors import BadInput

try:
    from flash_attn import flash_attn_varlen_func
except ImportError:
    flash_attn_varlen_func = None
try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None

NAME = "kubedistill_packed"
VARLEN_OPTIONS = frozenset(signature(varlen_attn).parameters) if varlen_attn else frozenset()
"""What this torch's `varlen_attn` takes: 2.10 knows `is_causal`, from 2.11 on it is a window. Looked up here, because a
compiled layer cannot."""
Kernel = Literal["flash_attn", "varlen", "flex", "sdpa"]


@dataclass(frozen=True, eq=False)
class Documents:
    """Where the documents of one micro-batch lie, and what computes their attention.

    The kernels on a GPU see nothing but tensors and T. A compiled layer is compiled anew for each number that it has
    not seen, and left uncompiled after the eighth.
    """

    kernel: Kernel = "sdpa"
    lengths: tuple[int, ...] = ()
    """Tokens of each document, in order; they sum to T. For sdpa alone."""
    starts: Tensor | None = None
    """int32, documents + 1 entries: cumulative lengths on the model's device, for the kernels on a GPU."""
    longest: int = 0
    """T: no document is longer. A kernel's blocks beyond a document's end return at once."""
    masks: dict[int, Any] = field(default_factory=dict)
    """Flex attention's block mask per sliding window (0: none)."""

    @cached_property
    def numbers(self) -> Tensor:
        """(T,) int32: for each token the number of its document."""
        assert self.starts is not None
        counts = self.starts.diff()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device, dtype=torch.int32), counts)


def make_documents(lengths: Sequence[int], kernel: Kernel, device: torch.device) -> Documents:
    """Documents of the given lengths for a model on `device`."""
    if kernel == "sdpa":
        return Documents(lengths=tuple(lengths))
    ends = torch.tensor([0, *lengths]).cumsum(0)
    starts = ends.to(torch.int32).to(device, non_blocking=True)
    torch._dynamo.maybe_mark_dynamic(starts, 0)
    return Documents(kernel, starts=starts, longest=sum(lengths))


def choose_kernel(wanted: str, device: torch.device) -> Kernel:
    """The kernel for the spec's `attention`. Raises BadInput where it asks for one that is not to be had."""
    if device.type != "cuda":
        if wanted in ("flash", "flex"):
            raise BadInput(f"attention: {wanted} needs a GPU; use auto or sdpa on a CPU")
        return "sdpa"
    if wanted in ("flex", "sdpa"):
        return "flex" if wanted == "flex" else "sdpa"
    if flash_attn_varlen_func:
        return "flash_attn"
    if varlen_attn:
        return "varlen"
    if wanted == "flash":
        raise BadInput("attention: flash needs the package flash-attn or a torch with torch.nn.attention.varlen")
    return "flex"


def packed_attention(
    module: torch.nn.Module,
    q_BHTD: Tensor,
    k_BKTD: Tensor,
    v_BKTD: Tensor,
    attention_mask: Tensor | None,
    *,
    documents: Documents | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each document. Returns (B, T, H, D), as transformers' interface wants it.

    Raises BadInput for models with attention sinks, and for models that do not hand the documents down.
    """
    if documents is None:
        raise BadInput(f"{type(module).__name__} does not pass keyword arguments to its attention; it cannot be packed")
    if s_aux is not None:
        raise BadInput(f"{type(module).__name__} has attention sinks, which packed training does not support")
    window = sliding_window or 0
    if documents.kernel == "sdpa":
        return _per_document(q_BHTD, k_BKTD, v_BKTD, documents, scaling, dropout, window, softcap), None
    if dropout:
        raise BadInput("attention dropout is only supported with attention: sdpa")
    if documents.kernel == "flex":
        return _flex(q_BHTD, k_BKTD, v_BKTD, documents, scaling, window, softcap), None
    q_THD, k_TKD, v_TKD = (x.transpose(1, 2)[0] for x in (q_BHTD, k_BKTD, v_BKTD))
    starts, longest = documents.starts, documents.longest
    if documents.kernel == "flash_attn":
        sides = (window - 1, 0) if window else (-1, -1)
        out_THD = flash_attn_varlen_func(
            q_THD, k_TKD, v_TKD, starts, starts, longest, longest, softmax_scale=scaling, causal=True,
            window_size=sides, softcap=softcap or 0.0,
        )  # fmt: skip
    else:
        out_THD = _varlen(q_THD, k_TKD, v_TKD, documents, scaling, window, softcap)
    return out_THD[None], None


def _varlen(
    q_THD: Tensor,
    k_TKD: Tensor,
    v_TKD: Tensor,
    documents: Documents,
    scale: float | None,
    window: int,
    softcap: float | None,
) -> Tensor:
    if softcap:
        raise BadInput("this model caps its attention scores: use attention: flex, or install flash-attn")
    if "window_size" in VARLEN_OPTIONS:
        options: dict[str, Any] = {"scale": scale, "window_size": (window - 1, 0) if window else (-1, 0)}
    elif window:
        raise BadInput("sliding windows need torch 2.11 or later, or the package flash-attn")
    else:
        options = {"is_causal": True} | ({"scale": scale} if "scale" in VARLEN_OPTIONS else {})
    if "enable_gqa" in VARLEN_OPTIONS:
        options["enable_gqa"] = q_THD.shape[1] != k_TKD.shape[1]
    starts, longest = documents.starts, documents.longest
    return varlen_attn(q_THD, k_TKD, v_TKD, starts, starts, longest, longest, **options)


def _per_document(
    q_BHTD: Tensor,
    k_BKTD: Tensor,
    v_BKTD: Tensor,
    documents: Documents,
    scale: float | None,
    dropout: float,
    window: int,
    softcap: float | None,
) -> Tensor:
    # Measured on a CPU against padded groups of documents: one causal call per document is the fastest from 16
    # documents of 60 tokens to 8 of 600, because the kernel skips the upper triangle and nothing is copied.
    grouped = q_BHTD.shape[1] != k_BKTD.shape[1]
    outputs = []
    lengths = list(documents.lengths)
    for q, k, v in zip(q_BHTD.split(lengths, 2), k_BKTD.split(lengths, 2), v_BKTD.split(lengths, 2), strict=True):
        count = q.shape[2]
        mask = _band(count, window, q.device) if window and count > window else None
        if softcap:
            out = _capped(q, k, v, mask, scale, softcap)
        else:
            out = scaled_dot_product_attention(
                q, k, v, mask, dropout, is_causal=mask is None, scale=scale, enable_gqa=grouped
            )
        outputs.append(out.transpose(1, 2))
    return torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]


def _band(count: int, window: int, device: torch.device) -> Tensor:
    positions = torch.arange(count, device=device)
    distance = positions[:, None] - positions[None, :]
    return (distance >= 0) & (distance < window)


def _capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None, softcap: float) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(2, 3) * (scale or q.shape[-1] ** -0.5)
    scores = softcap * torch.tanh(scores / softcap)
    keep = _band(q.shape[2], q.shape[2], q.device) if mask is None else mask
    return torch.softmax(scores.masked_fill(~keep, float("-inf")), -1) @ v


@cache
def _flex_kernel() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _flex(
    q_BHTD: Tensor,
    k_BKTD: Tensor,
    v_BKTD: Tensor,
    documents: Documents,
    scale: float | None,
    window: int,
    softcap: float | None,
) -> Tensor:
    if window not in documents.masks:
        documents.masks[window] = _block_mask(documents, window)
    score_mod = (lambda score, b, h, q, k: softcap * torch.tanh(score / softcap)) if softcap else None
    out_BHTD = _flex_kernel()(
        q_BHTD, k_BKTD, v_BKTD, score_mod, documents.masks[window], scale, q_BHTD.shape[1] != k_BKTD.shape[1]
    )
    return out_BHTD.transpose(1, 2)


def _block_mask(documents: Documents, window: int) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    document_of_T = documents.numbers

    def same_document_and_past(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        keep = (document_of_T[q] == document_of_T[k]) & (q >= k)
        return keep & (q - k < window) if window else keep

    count = len(document_of_T)
    return create_block_mask(same_document_and_past, None, None, count, count, device=str(document_of_T.device))


def register() -> None:
    """Makes the name known to transformers. Without a mask function of that name, no mask is built either."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
