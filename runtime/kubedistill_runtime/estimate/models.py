"""Architecture figures of models: from a config.json where there is one, else from a small table, else by the name.

Sizes in the table are those of the models' own config.json files on the hub.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kubedistill_api.data import ModelSource
from kubedistill_runtime.data.storage import local_path

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "fp8": 1}


@dataclass(frozen=True)
class Architecture:
    """What memory and time depend on. Parameters are counted in full; `active` are those that one token passes."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool = False
    context: int | None = None
    """Longest sequence that the model is made for."""
    parameters: int = 0
    active: int = 0
    weight_bytes: float = 2
    """Bytes of one stored parameter."""
    kv_values: int = 0
    """Values that one token adds to the KV cache, over all layers."""
    source: Literal["config", "table", "guess"] = "config"
    like: str = ""
    """For a table entry or a guess: the model whose figures these are."""

    def kv_bytes(self, value_bytes: int = 2) -> int:
        """KV cache of one token in bytes."""
        return self.kv_values * value_bytes


def dense(
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    intermediate: int,
    vocab: int,
    *,
    head_dim: int | None = None,
    tied: bool = False,
    context: int | None = None,
) -> Architecture:
    """A decoder with grouped-query attention and a gated MLP. Norms and biases are left out: under 0.1 %."""
    head_dim = head_dim or hidden // heads
    attention = hidden * head_dim * (2 * heads + 2 * kv_heads)
    embedding = vocab * hidden * (1 if tied else 2)
    parameters = layers * (attention + 3 * hidden * intermediate) + embedding
    return Architecture(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=intermediate,
        vocab=vocab,
        tied=tied,
        context=context,
        parameters=parameters,
        active=parameters,
        kv_values=layers * 2 * kv_heads * head_dim,
    )


def from_config(config: dict[str, Any]) -> Architecture | None:
    """From a config.json; None where it lacks what is needed."""
    config = {**config, **config.get("text_config", {})}
    try:
        base = dense(
            config["num_hidden_layers"],
            config["hidden_size"],
            config["num_attention_heads"],
            config.get("num_key_value_heads") or config["num_attention_heads"],
            config.get("intermediate_size") or 4 * config["hidden_size"],
            config["vocab_size"],
            head_dim=config.get("head_dim"),
            tied=config.get("tie_word_embeddings", False),
            context=config.get("max_position_embeddings"),
        )
    except KeyError:
        return None
    quantized = config.get("quantization_config", {}).get("quant_method")
    dtype = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    stored = 1.0 if quantized == "fp8" else float(DTYPE_BYTES.get(str(dtype), 2))
    return replace(_with_experts(_with_latents(base, config), config), weight_bytes=stored)


def _with_latents(base: Architecture, config: dict[str, Any]) -> Architecture:
    """DeepSeek's latent attention caches one compressed vector for keys and values together."""
    rank = config.get("kv_lora_rank")
    if not rank:
        return base
    rope, nope = config["qk_rope_head_dim"], config["qk_nope_head_dim"]
    value, query = config["v_head_dim"], config.get("q_lora_rank")
    hidden, heads = base.hidden, base.heads
    attention = hidden * (rank + rope) + rank * heads * (nope + value) + heads * value * hidden
    attention += (hidden * query + query * heads * (nope + rope)) if query else hidden * heads * (nope + rope)
    saved = base.hidden * base.head_dim * (2 * heads + 2 * base.kv_heads) - attention
    parameters = base.parameters - base.layers * saved
    return replace(base, parameters=parameters, active=parameters, kv_values=base.layers * (rank + rope))


def _with_experts(base: Architecture, config: dict[str, Any]) -> Architecture:
    experts = config.get("num_experts") or config.get("n_routed_experts") or config.get("num_local_experts")
    if not experts:
        return base
    width = config.get("moe_intermediate_size") or base.intermediate
    chosen = config.get("num_experts_per_tok", 1)
    shared = config.get("n_shared_experts") or 0
    layers = base.layers - (config.get("first_k_dense_replace") or 0)
    mlp, expert, router = 3 * base.hidden * base.intermediate, 3 * base.hidden * width, base.hidden * experts
    return replace(
        base,
        parameters=base.parameters + layers * ((experts + shared) * expert + router - mlp),
        active=base.active + layers * ((chosen + shared) * expert + router - mlp),
    )


def _qwen3_moe(layers: int, hidden: int, heads: int, width: int) -> Architecture:
    base = dense(layers, hidden, heads, 4, 0, 151936, head_dim=128, context=40960)
    return _with_experts(base, {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": width})


def _deepseek_v3() -> Architecture:
    config = {
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048,
        "first_k_dense_replace": 3,
    }
    base = dense(61, 7168, 128, 128, 18432, 129280, head_dim=128, context=163840)
    return replace(_with_experts(_with_latents(base, config), config), weight_bytes=1.0)


_QWEN25: dict[str, Callable[[], Architecture]] = {
    "0.5b": lambda: dense(24, 896, 14, 2, 4864, 151936, tied=True, context=32768),
    "1.5b": lambda: dense(28, 1536, 12, 2, 8960, 151936, tied=True, context=32768),
    "3b": lambda: dense(36, 2048, 16, 2, 11008, 151936, tied=True, context=32768),
    "7b": lambda: dense(28, 3584, 28, 4, 18944, 152064, context=32768),
    "14b": lambda: dense(48, 5120, 40, 8, 13824, 152064, context=32768),
    "32b": lambda: dense(64, 5120, 40, 8, 27648, 152064, context=32768),
    "72b": lambda: dense(80, 8192, 64, 8, 29568, 152064, context=32768),
}
_QWEN3: dict[str, Callable[[], Architecture]] = {
    "0.6b": lambda: dense(28, 1024, 16, 8, 3072, 151936, head_dim=128, tied=True, context=40960),
    "1.7b": lambda: dense(28, 2048, 16, 8, 6144, 151936, head_dim=128, tied=True, context=40960),
    "4b": lambda: dense(36, 2560, 32, 8, 9728, 151936, head_dim=128, tied=True, context=40960),
    "8b": lambda: dense(36, 4096, 32, 8, 12288, 151936, head_dim=128, context=40960),
    "14b": lambda: dense(40, 5120, 40, 8, 17408, 151936, head_dim=128, context=40960),
    "32b": lambda: dense(64, 5120, 64, 8, 25600, 151936, head_dim=128, context=40960),
    "30b-a3b": lambda: _qwen3_moe(48, 2048, 32, 768),
    "235b-a22b": lambda: _qwen3_moe(94, 4096, 64, 1536),
}
_LLAMA3: dict[str, Callable[[], Architecture]] = {
    "1b": lambda: dense(16, 2048, 32, 8, 8192, 128256, tied=True, context=131072),
    "3b": lambda: dense(28, 3072, 24, 8, 8192, 128256, tied=True, context=131072),
    "8b": lambda: dense(32, 4096, 32, 8, 14336, 128256, context=131072),
    "70b": lambda: dense(80, 8192, 64, 8, 28672, 128256, context=131072),
    "405b": lambda: dense(126, 16384, 128, 8, 53248, 128256, context=131072),
}


def _long(shape: Callable[[], Architecture], context: int = 131072, tied: bool = False) -> Callable[[], Architecture]:
    def made() -> Architecture:
        a = shape()
        whole = dense(a.layers, a.hidden, a.heads, a.kv_heads, a.intermediate, a.vocab, head_dim=a.head_dim, tied=tied)
        return replace(whole, context=context)

    return made


TABLE: dict[str, Callable[[], Architecture]] = {
    **{f"qwen2.5-{size}": shape for size, shape in _QWEN25.items()},
    **{f"qwen3-{size}": shape for size, shape in _QWEN3.items()},
    **{f"llama-3-{size}": shape for size, shape in _LLAMA3.items()},
    **{f"deepseek-r1-distill-qwen-{size}": _long(_QWEN25[size]) for size in ("1.5b", "7b", "14b", "32b")},
    **{f"deepseek-r1-distill-llama-{size}": _LLAMA3[size] for size in ("8b", "70b")},
    "qwq-32b": _long(_QWEN25["32b"], context=40960),
    "deepseek-r1": _deepseek_v3,
    "deepseek-v3": _deepseek_v3,
    "phi-4": lambda: dense(40, 5120, 40, 10, 17920, 100352, context=16384),
}
"""By name in lower case, without a family's suffixes."""

_LOOSE = re.compile(r"-(instruct|base|preview|chat|it|hf|math|coder|thinking|reasoning|\d{4})(?=-|$)")
_BILLIONS = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?![a-z0-9])")


def architecture(source: ModelSource) -> Architecture | None:
    """Figures of a model; None where nothing, not even its name, tells its size. Never goes to the network."""
    path = local_path(source.uri)
    if path is not None:
        return _read(path / "config.json")
    if not source.uri.startswith("hf://"):
        return by_name(source.uri)
    return _cached(source.uri.removeprefix("hf://"), source.revision) or by_name(source.uri)


def by_name(uri: str) -> Architecture | None:
    """From the table, or the figures of the nearest dense model in it where the name says a size."""
    name = uri.rstrip("/").rpartition("/")[2].lower()
    plain = _LOOSE.sub("", re.sub(r"^(meta-)?llama-3(\.[123])?-", "llama-3-", name))
    if plain in TABLE:
        return replace(TABLE[plain](), source="table", like=plain)
    billions = _BILLIONS.search(name)
    if not billions:
        return None
    size = float(billions[1]) * 1e9
    near = min((n for n in TABLE if n.startswith(("qwen", "llama"))), key=lambda n: abs(TABLE[n]().parameters - size))
    return replace(TABLE[near](), parameters=int(size), active=int(size), source="guess", like=near)


def _read(path: Path) -> Architecture | None:
    try:
        return from_config(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None


def _cached(repository: str, revision: str | None) -> Architecture | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    try:
        path = try_to_load_from_cache(repository, "config.json", revision=revision)
    except ValueError:  # not the form of a repository's name
        return None
    return _read(Path(path)) if isinstance(path, str) else None
