"""Architecture figures against what the models' cards and indexes state."""

import json
from pathlib import Path

import pytest

from kubedistill_api.data import ModelSource
from kubedistill_runtime.estimate.models import TABLE, architecture, by_name, from_config

KIB = 1024


def billions(name: str) -> float:
    return TABLE[name]().parameters / 1e9


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("qwen2.5-0.5b", 0.494),
        ("qwen2.5-7b", 7.616),
        ("qwen2.5-32b", 32.764),
        ("qwen2.5-72b", 72.706),
        ("qwen3-0.6b", 0.596),
        ("qwen3-4b", 4.022),
        ("qwen3-32b", 32.762),
        ("qwen3-30b-a3b", 30.532),
        ("qwen3-235b-a22b", 235.094),
        ("llama-3-1b", 1.236),
        ("llama-3-8b", 8.030),
        ("llama-3-70b", 70.554),
        ("phi-4", 14.660),
        ("deepseek-r1", 671.03),
        ("deepseek-r1-distill-qwen-1.5b", 1.777),
    ],
)
def test_parameters_are_those_of_the_published_weights(name: str, stated: float) -> None:
    assert billions(name) == pytest.approx(stated, rel=0.001)


def test_a_mixture_of_experts_counts_what_a_token_passes() -> None:
    assert TABLE["qwen3-30b-a3b"]().active / 1e9 == pytest.approx(3.3, rel=0.03)
    assert TABLE["qwen3-235b-a22b"]().active / 1e9 == pytest.approx(22, rel=0.03)
    assert TABLE["deepseek-r1"]().active / 1e9 == pytest.approx(37, rel=0.03)


def test_the_kv_cache_of_a_32b_model_is_256_kib_a_token() -> None:
    model = TABLE["qwen2.5-32b"]()
    assert model.kv_bytes() == 64 * 2 * 8 * 128 * 2 == 256 * KIB
    assert model.kv_bytes(1) == 128 * KIB


def test_latent_attention_caches_one_small_vector_a_layer() -> None:
    assert TABLE["deepseek-r1"]().kv_bytes() == 61 * (512 + 64) * 2


@pytest.mark.parametrize(
    ("uri", "like"),
    [
        ("hf://Qwen/QwQ-32B", "qwq-32b"),
        ("hf://Qwen/Qwen2.5-32B-Instruct", "qwen2.5-32b"),
        ("hf://Qwen/Qwen2.5-Math-7B-Instruct", "qwen2.5-7b"),
        ("hf://Qwen/Qwen2.5-Coder-14B", "qwen2.5-14b"),
        ("hf://Qwen/Qwen3-30B-A3B-Thinking-2507", "qwen3-30b-a3b"),
        ("hf://deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "deepseek-r1-distill-qwen-32b"),
        ("hf://deepseek-ai/DeepSeek-R1-0528", "deepseek-r1"),
        ("hf://meta-llama/Llama-3.1-8B-Instruct", "llama-3-8b"),
        ("hf://meta-llama/Llama-3.3-70B-Instruct", "llama-3-70b"),
        ("hf://meta-llama/Meta-Llama-3-8B", "llama-3-8b"),
        ("s3://models/phi-4/", "phi-4"),
    ],
)
def test_well_known_names_are_known(uri: str, like: str) -> None:
    model = by_name(uri)
    assert model is not None
    assert (model.source, model.like) == ("table", like)


def test_a_size_in_an_unknown_name_is_a_guess_and_says_so() -> None:
    model = by_name("hf://simplescaling/s1.1-32B")
    assert model is not None
    assert (model.source, model.parameters) == ("guess", 32_000_000_000)


@pytest.mark.parametrize("uri", ["hf://org/mystery", "hf://org/b7", "hf://org/v2.5b1"])
def test_a_name_without_a_size_is_unknown(uri: str) -> None:
    assert by_name(uri) is None


def test_an_embedded_model_is_read_from_its_config() -> None:
    model = architecture(ModelSource(uri="embedded://models/student"))
    assert model is not None
    assert model.source == "config"
    assert model.parameters == pytest.approx(363_000, rel=0.01)
    assert model.context == 512


def test_a_local_folder_without_a_config_is_unknown(tmp_path: Path) -> None:
    assert architecture(ModelSource(uri=str(tmp_path))) is None
    (tmp_path / "config.json").write_text("{broken")
    assert architecture(ModelSource(uri=str(tmp_path))) is None
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    assert architecture(ModelSource(uri=str(tmp_path))) is None


def test_configs_of_every_form_give_the_table_s_figures() -> None:
    qwen = from_config(
        {
            "num_hidden_layers": 64,
            "hidden_size": 5120,
            "num_attention_heads": 40,
            "num_key_value_heads": 8,
            "intermediate_size": 27648,
            "vocab_size": 152064,
            "torch_dtype": "bfloat16",
        }
    )
    assert qwen is not None
    assert qwen.parameters == TABLE["qwen2.5-32b"]().parameters
    moe = from_config(
        {
            "num_hidden_layers": 48,
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "vocab_size": 151936,
        }
    )
    assert moe is not None
    assert moe.parameters == pytest.approx(TABLE["qwen3-30b-a3b"]().parameters, rel=1e-3)


def test_stored_types_decide_the_size_of_the_weights() -> None:
    base = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 2,
        "vocab_size": 100,
    }
    for extra, stored in (
        ({"dtype": "float32"}, 4),
        ({}, 2),
        ({"quantization_config": {"quant_method": "fp8"}}, 1),
        ({"text_config": {"dtype": "float32"}}, 4),
    ):
        model = from_config({**base, **extra})
        assert model is not None
        assert model.weight_bytes == stored
