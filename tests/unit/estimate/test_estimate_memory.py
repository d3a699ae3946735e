"""Whether models fit, against known cases."""

import pytest

from kubedistill_api.data import EngineSpec
from kubedistill_api.runtime import GpuType, RoleSpec
from kubedistill_api.training import LoraSpec, TrainingSpec
from kubedistill_runtime.estimate.memory import GIB, engine_fit, training_fit
from kubedistill_runtime.estimate.models import TABLE

QWEN_32B = TABLE["qwen2.5-32b"]()
QWEN_7B = TABLE["qwen2.5-7b"]()
WHERE = "spec.teacher.engine"


def gpus(count: int, memory: float = 80, replicas: int = 1) -> RoleSpec:
    return RoleSpec(gpus_per_replica=count, replicas=replicas, gpu=GpuType(memory_gib=memory))


def test_a_7b_model_fits_one_gpu_with_room_for_many() -> None:
    fit = engine_fit(QWEN_7B, EngineSpec(), gpus(1), 16384, WHERE)
    assert fit.verdict == "fits"
    assert fit.parts["weights"] == pytest.approx(14.2 * GIB, rel=0.01)
    # 72 - 14.2 - 3 GiB of cache at 56 KiB a token.
    assert fit.kv_tokens == pytest.approx((72 - 14.2 - 3) * GIB / (56 * 1024), rel=0.01)
    assert fit.concurrency == pytest.approx(fit.kv_tokens / 16384)


def test_tensor_parallel_splits_weights_and_cache() -> None:
    one = engine_fit(QWEN_32B, EngineSpec(tensor_parallel_size=2), gpus(8), 18432, WHERE)
    two = engine_fit(QWEN_32B, EngineSpec(tensor_parallel_size=4), gpus(8), 18432, WHERE)
    assert two.parts["weights"] * 2 == pytest.approx(one.parts["weights"], rel=1e-6)
    assert (one.engines, two.engines) == (4, 2)
    assert two.concurrency > 2 * one.concurrency


def test_a_72b_model_does_not_fit_one_gpu_and_is_told_what_would() -> None:
    fit = engine_fit(TABLE["qwen2.5-72b"](), EngineSpec(), gpus(8), 8192, WHERE)
    assert fit.verdict == "too big"
    assert fit.fix == "set spec.teacher.engine.tensorParallelSize: 4"
    assert "of each GPU, 72 are there" in fit.problem


def test_more_gpus_than_the_role_has_are_refused() -> None:
    fit = engine_fit(QWEN_32B, EngineSpec(tensor_parallel_size=8), gpus(4), 8192, WHERE)
    assert fit.verdict == "too big"
    assert "takes 8 GPUs" in fit.problem


def test_heads_must_divide_by_the_gpus() -> None:
    fit = engine_fit(QWEN_7B, EngineSpec(tensor_parallel_size=8), gpus(8), 8192, WHERE)
    assert "28 attention heads cannot be shared by 8" in fit.problem


def test_beyond_one_head_a_gpu_the_cache_is_copied() -> None:
    four = engine_fit(QWEN_7B, EngineSpec(tensor_parallel_size=4), gpus(8), 8192, WHERE)
    half = engine_fit(QWEN_7B, EngineSpec(tensor_parallel_size=7), gpus(8), 8192, WHERE)
    assert four.parts["one sequence"] == half.parts["one sequence"]


def test_an_fp8_cache_holds_twice_the_tokens() -> None:
    plain = engine_fit(QWEN_7B, EngineSpec(), gpus(1), 8192, WHERE)
    small = engine_fit(QWEN_7B, EngineSpec(kv_cache_dtype="fp8"), gpus(1), 8192, WHERE)
    assert small.kv_tokens == pytest.approx(2 * plain.kv_tokens, abs=2)


def test_a_sequence_longer_than_the_cache_does_not_fit() -> None:
    fit = engine_fit(QWEN_32B, EngineSpec(), gpus(1), 131072, WHERE)
    assert fit.verdict == "too big"


def test_deepseek_r1_takes_a_machine_of_large_gpus() -> None:
    r1, engine = TABLE["deepseek-r1"](), EngineSpec(tensor_parallel_size=8)
    assert engine_fit(r1, engine, gpus(8, 80), 16384, WHERE).verdict == "too big"
    assert engine_fit(r1, engine, gpus(8, 141), 16384, WHERE).verdict == "fits"


def test_the_cpu_is_not_judged() -> None:
    assert engine_fit(QWEN_32B, EngineSpec(), RoleSpec(), 8192, WHERE).verdict == "unknown"
    assert training_fit(QWEN_32B, TrainingSpec(), RoleSpec()).verdict == "unknown"


def test_optimiser_state_is_16_bytes_a_parameter_over_all_gpus() -> None:
    fit = training_fit(QWEN_32B, TrainingSpec(), gpus(8))
    assert fit.parts["optimiser state"] == pytest.approx(QWEN_32B.parameters * 16 / 8)


@pytest.mark.parametrize(
    ("role", "verdict"),
    [
        (gpus(4), "too big"),
        (gpus(8, replicas=2), "fits"),
        (gpus(8, memory=141), "fits"),
        (gpus(8, memory=88), "tight"),
        # 61 GiB of state, 10 of kept activations, 6 of one layer's, 9 of gathered weights and their gradients.
        (gpus(8, memory=80), "too big"),
    ],
)
def test_full_fine_tuning_of_32b_at_16k(role: RoleSpec, verdict: str) -> None:
    assert training_fit(QWEN_32B, TrainingSpec(context_length=16384), role).verdict == verdict


def test_one_machine_of_80_gb_takes_32b_at_half_the_length_at_its_limit() -> None:
    """torchtitan measured 82 GiB for Qwen3-32B on 8 GPUs with 8192 tokens a GPU (issue 1690)."""
    fit = training_fit(TABLE["qwen3-32b"](), TrainingSpec(context_length=8192), gpus(8))
    assert fit.used / GIB == pytest.approx(82, rel=0.05)
    assert fit.verdict == "tight"


def test_what_does_not_fit_is_told_how_many_gpus_it_takes() -> None:
    fit = training_fit(QWEN_32B, TrainingSpec(), gpus(4))
    assert "use a runtime whose trainer has 16 of these GPUs" in fit.fix
    assert "spec.training.lora" in fit.fix


def test_keeping_all_activations_is_the_first_thing_to_give_up() -> None:
    fit = training_fit(QWEN_7B, TrainingSpec(activation_checkpointing="none"), gpus(8))
    assert fit.verdict == "too big"
    assert fit.fix.startswith("set spec.training.activationCheckpointing: full")


def test_adapters_of_a_32b_model_fit_two_gpus() -> None:
    assert training_fit(QWEN_32B, TrainingSpec(lora=LoraSpec()), gpus(2)).verdict == "fits"
    assert training_fit(QWEN_32B, TrainingSpec(), gpus(2)).verdict == "too big"


def test_memory_never_grows_with_more_gpus_and_never_shrinks_with_length() -> None:
    by_gpus = [training_fit(QWEN_32B, TrainingSpec(), gpus(n)).used for n in (2, 4, 8, 16)]
    assert by_gpus == sorted(by_gpus, reverse=True)
    by_length = [training_fit(QWEN_32B, TrainingSpec(context_length=n), gpus(8)).used for n in (4096, 8192, 16384)]
    assert by_length == sorted(by_length)
