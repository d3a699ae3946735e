"""Any Hugging Face causal language model, and the objective that trains it.

Shapes: T packed tokens, V positions with loss, E hidden size.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.train.attention import NAME, Documents, register
from kubedistill_runtime.train.loss import Head, chunked_cross_entropy, token_measures

PACKABLE_LAYERS = {"full_attention", "sliding_attention"}
"""Layer types whose tokens see each other through attention alone. A state-space layer would leak between documents."""


def read_config(model_path: Path, *, trust_remote_code: bool = False) -> Any:
    """The model's configuration. Raises BadInput for a folder without a causal LM, or with code that is not trusted.

    Here as in the other functions, trust_remote_code runs Python code that lies in the model's folder.
    """
    from transformers import AutoConfig

    if not (model_path / "config.json").is_file():
        raise BadInput(f"model {model_path}: no config.json; expected a Hugging Face model folder")
    try:
        config = AutoConfig.from_pretrained(model_path, trust_remote_code=trust_remote_code)
    except ValueError as error:
        raise _unusable(model_path, error, trust_remote_code) from error
    kinds = set(getattr(config, "layer_types", None) or ()) - PACKABLE_LAYERS
    if kinds:
        raise BadInput(f"model {model_path}: layers of type {', '.join(sorted(kinds))} cannot be trained packed")
    return config


def end_of_sequence_ids(model_path: Path) -> frozenset[int]:
    """The ids that end a response, from generation_config.json and config.json."""
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        if (model_path / name).is_file():
            value = json.loads((model_path / name).read_text()).get("eos_token_id")
            ids.update(value if isinstance(value, list) else [] if value is None else [value])
    return frozenset(ids)


def load_model(model_path: Path, config: Any, dtype: torch.dtype | str, *, trust_remote_code: bool = False) -> Any:
    """The pretrained model on the CPU. Raises BadInput where transformers cannot make one of the folder."""
    from transformers import AutoModelForCausalLM

    register()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            model_path, config=config, dtype=dtype, attn_implementation=NAME, trust_remote_code=trust_remote_code
        )
    except (ValueError, OSError) as error:
        raise _unusable(model_path, error, trust_remote_code) from error
    return checked(model)


def empty_model(config: Any, dtype: torch.dtype, *, trust_remote_code: bool = False) -> Any:
    """The same model without weights, on the meta device."""
    from transformers import AutoModelForCausalLM

    register()
    with torch.device("meta"):
        return checked(
            AutoModelForCausalLM.from_config(
                config, dtype=dtype, attn_implementation=NAME, trust_remote_code=trust_remote_code
            )
        )


def _unusable(model_path: Path, error: Exception, trust_remote_code: bool) -> BadInput:
    if not trust_remote_code and "trust_remote_code" in str(error):
        return BadInput(
            f"model {model_path}: it comes with code of its own; set spec.student.trustRemoteCode: true if you trust "
            "its owner"
        )
    return BadInput(f"model {model_path}: {str(error).splitlines()[0]}")


def checked(model: Any) -> Any:
    """The model, if its class can be trained packed; BadInput otherwise."""
    kind = type(model).__name__
    if not model._supports_attention_backend:
        raise BadInput(f"{kind} does not use transformers' attention interface; it cannot be trained packed")
    if model.get_output_embeddings() is None:
        raise BadInput(f"{kind} has no output embedding; a causal language model is needed")
    decoder_layers(model)
    return model


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of decoder layers: the longest module list outside of any other module list."""
    lists: list[nn.ModuleList] = []
    pending = [model]
    while pending:
        module = pending.pop()
        for child in module.children():
            if isinstance(child, nn.ModuleList) and len(child):
                lists.append(child)
            else:
                pending.append(child)
    if not lists:
        raise BadInput(f"{type(model).__name__}: found no list of decoder layers")
    return max(lists, key=len)


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Packed documents on the model's device. No tensor has a batch dimension."""

    input_ids: Tensor
    """(T,) int64."""
    position_ids: Tensor
    """(T,) int64: from 0 in each document."""
    sources: Tensor
    """(V,) int64: positions whose next token carries loss."""
    targets: Tensor
    """(V,) int64: those next tokens."""
    documents: Documents


class Objective(nn.Module):
    """A causal language model and its loss in one module, so that FSDP gathers the output head for the loss too."""

    def __init__(self, model: Any, chunk: int, compiled: bool = False) -> None:
        super().__init__()
        self.model = model
        self.chunk = chunk
        self.compiled = compiled
        self.head = Head.of(model.config)

    def forward(self, batch: MicroBatch, scale: float) -> Tensor:
        """`scale` times the summed cross entropy of the response tokens: fp32 scalar."""
        hidden_TE = self.hidden(batch)
        out = self.model.get_output_embeddings()
        return chunked_cross_entropy(
            hidden_TE.index_select(0, batch.sources),
            out.weight,
            batch.targets,
            scale=scale,
            chunk=self.chunk,
            bias_W=out.bias,
            head=self.head,
            compiled=self.compiled,
        )

    def hidden(self, batch: MicroBatch) -> Tensor:
        """Last hidden states (T, E)."""
        return self.model.base_model(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            use_cache=False,
            documents=batch.documents,
        ).last_hidden_state[0]

    def measures(self, batch: MicroBatch) -> Tensor:
        """(2, V) fp32: negative log-likelihood and entropy of the response tokens; see `token_measures`."""
        hidden_TE = self.hidden(batch)
        out = self.model.get_output_embeddings()
        hidden_VE = hidden_TE.index_select(0, batch.sources)
        return token_measures(hidden_VE, out.weight, batch.targets, chunk=self.chunk, bias_W=out.bias, head=self.head)

    def states(self, batch: MicroBatch, lengths: Sequence[int]) -> Tensor:
        """(layers, D, E) fp32: what each decoder layer gives, averaged over the tokens of each of the first D
        documents, which are of these lengths."""
        means: list[Tensor] = []

        def keep(_layer: nn.Module, _inputs: Any, output: Any) -> None:
            hidden_TE = (output[0] if isinstance(output, tuple) else output).squeeze(0)
            parts = hidden_TE[: sum(lengths)].split(list(lengths)) if lengths else ()
            means.append(torch.stack([p.float().mean(0) for p in parts]) if parts else hidden_TE[:0].float())

        handles = [layer.register_forward_hook(keep) for layer in decoder_layers(self.model)]
        try:
            self.hidden(batch)
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(means)
