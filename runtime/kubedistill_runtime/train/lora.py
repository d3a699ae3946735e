"""Low-rank adapters through peft: put in before sharding, merged at export."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kubedistill_api.training import LoraSpec
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.train.model import decoder_layers

PEFT_PREFIX = "base_model.model."
"""What a PeftModel puts before the names of the model it wraps."""


def add_adapters(model: Any, spec: LoraSpec) -> None:
    """Puts adapters into `model` in place and freezes everything else. Works on the meta device too.

    Raises BadInput where no module has one of the wanted names.
    """
    from peft import inject_adapter_in_model

    on_meta = next(model.parameters()).is_meta
    try:
        inject_adapter_in_model(_config(model, spec), model, low_cpu_mem_usage=on_meta)
    except ValueError as error:
        raise BadInput(f"lora.targetModules: {str(error).splitlines()[0]}") from error


def merge_adapters(base: Any, spec: LoraSpec, adapters: dict[str, Tensor], adapter_dir: Path) -> Any:
    """Writes the adapters in peft's format and returns `base` with them merged.

    `adapters` are named as in the model that `add_adapters` made.
    """
    from peft import get_peft_model

    wrapped = get_peft_model(base, _config(base, spec))
    unknown = wrapped.load_state_dict({PEFT_PREFIX + n: t for n, t in adapters.items()}, strict=False).unexpected_keys
    assert not unknown, f"adapters without a place: {unknown[:3]}"
    wrapped.save_pretrained(adapter_dir)
    return wrapped.merge_and_unload()


def _config(model: Any, spec: LoraSpec) -> Any:
    from peft import LoraConfig

    targets = list(spec.target_modules) or sorted(_linear_names(decoder_layers(model)))
    return LoraConfig(
        r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )


def _linear_names(layers: nn.ModuleList) -> set[str]:
    return {name.rsplit(".", 1)[-1] for name, module in layers.named_modules() if isinstance(module, nn.Linear)}
