"""The trained student as a Hugging Face model folder, which transformers and vLLM load."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from kubedistill_runtime.train.job import TrainJob
from kubedistill_runtime.train.lora import merge_adapters
from kubedistill_runtime.train.model import empty_model, load_model
from kubedistill_runtime.train.parallel import World

SHARD_SIZE = "5GB"
COPIED = (
    "added_tokens.json",
    "chat_template*",
    "additional_chat_templates",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer*",
    "vocab*",
)
"""Files taken over as they are. A tokenizer that is loaded and saved again may come out changed."""


def export_dtype(config: Any) -> torch.dtype:
    """The base model's own type; bf16 where its config names none."""
    named = getattr(config, "dtype", None)
    if isinstance(named, str):
        named = getattr(torch, named)
    return named or torch.bfloat16


def export_model(model: Any, config: Any, job: TrainJob, world: World, dtype: torch.dtype) -> None:
    """Gathers the weights, one at a time, and writes the job's `model/` atomically on the first rank.

    All ranks must call it. Code that comes with the model, where it is trusted, goes along. With LoRA only the adapters
    are gathered: the base is read again, merged in fp32, and the adapters lie beside it in `adapter/`. `dtype` is that
    of the weights written.
    """
    lora, trust, out = job.training.lora, job.trust_remote_code, job.model_dir
    weights = _gather(model, world, None if lora else dtype)
    if not world.is_first:
        return
    temporary = out.with_name(out.name + ".tmp")
    for stale in (temporary, out):
        if stale.exists():
            shutil.rmtree(stale)
    temporary.mkdir(parents=True)
    if lora:
        base = load_model(job.model_path, config, torch.float32, trust_remote_code=trust)
        merged = merge_adapters(base, lora, weights, temporary / "adapter")
        merged.to(dtype).save_pretrained(temporary, max_shard_size=SHARD_SIZE)
    else:
        empty = empty_model(config, dtype, trust_remote_code=trust)
        empty.save_pretrained(temporary, state_dict=weights, max_shard_size=SHARD_SIZE)
    for pattern in (*COPIED, "*.py") if trust else COPIED:
        for source in job.model_path.glob(pattern):
            if source.is_dir():
                shutil.copytree(source, temporary / source.name, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(source, temporary / source.name)
    _settle(temporary)
    temporary.rename(out)


def _gather(model: Any, world: World, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Whole tensors on the CPU of the first rank: all of the state in `dtype`, or only what was trained."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    tied = dict(model.all_tied_weights_keys or {})
    weights: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name in tied or (dtype is None and name not in trained):
            continue
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if world.is_first:
            weights[name] = whole.to("cpu", dtype if whole.is_floating_point() else None, copy=True)
    if dtype is not None and world.is_first:
        weights.update({name: weights[source] for name, source in tied.items()})
    return weights


def _settle(folder: Path) -> None:
    """Readable by everyone, because the server may run as another user; and on the disk before it gets its name."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
