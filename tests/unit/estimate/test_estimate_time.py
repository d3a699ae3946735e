"""How long engines and trainer work."""

import pytest

from kubedistill_api.data import EngineSpec
from kubedistill_api.runtime import GpuType, RoleSpec
from kubedistill_runtime.estimate.memory import engine_fit
from kubedistill_runtime.estimate.models import TABLE
from kubedistill_runtime.estimate.time import ENGINE_START_S, decoding, rate_limited, training
from kubedistill_runtime.estimate.tokens import Tokens, sampling_tokens

QWEN_32B = TABLE["qwen2.5-32b"]()
H100 = GpuType(name="H100", memory_gib=80, bf16_tflops=989, memory_bandwidth_gbps=3350)
ENGINE = EngineSpec(tensor_parallel_size=4)


def decode(gpus: int, engine: EngineSpec = ENGINE, samples: int = 16) -> float:
    role = RoleSpec(gpus_per_replica=gpus, gpu=H100)
    fit = engine_fit(QWEN_32B, engine, role, 18432, "x")
    duration = decoding(sampling_tokens(1000, samples, 16384), 1000, QWEN_32B, engine, role, fit)
    assert duration is not None
    return duration.tokens_per_second


def test_a_32b_model_decodes_some_thousand_tokens_a_second_on_four_gpus() -> None:
    assert 3_000 < decode(4) < 9_000


def test_two_engines_decode_nearly_twice_as_fast() -> None:
    assert decode(8) == pytest.approx(2 * decode(4), rel=0.1)


def test_a_small_batch_is_slow() -> None:
    assert decode(4, EngineSpec(tensor_parallel_size=4, max_num_seqs=8)) < decode(4) / 4


def test_a_cpu_and_a_model_that_does_not_fit_have_no_time() -> None:
    tokens = sampling_tokens(10, 1, 128)
    for role, engine in ((RoleSpec(), EngineSpec()), (RoleSpec(gpus_per_replica=1, gpu=H100), ENGINE)):
        fit = engine_fit(QWEN_32B, engine, role, 512, "x")
        assert decoding(tokens, 10, QWEN_32B, engine, role, fit) is None
    assert training(Tokens(training=1), QWEN_32B, RoleSpec()) is None


def test_training_is_six_flops_a_parameter_and_token_at_the_assumed_utilisation() -> None:
    duration = training(Tokens(training=124_000_000), QWEN_32B, RoleSpec(gpus_per_replica=8, gpu=H100))
    assert duration is not None
    expected = 6 * QWEN_32B.parameters * 124e6 / (0.35 * 8 * 989e12)
    assert duration.wall_seconds == pytest.approx(expected + ENGINE_START_S)
    assert duration.gpu_seconds == 8 * duration.wall_seconds


def test_a_forward_pass_alone_is_a_third_of_the_work() -> None:
    role = RoleSpec(gpus_per_replica=8, gpu=H100)
    whole = training(Tokens(training=90_000_000), QWEN_32B, role)
    mixed = training(Tokens(training=80_000_000, measured=30_000_000), QWEN_32B, role)
    assert whole is not None
    assert mixed is not None
    assert mixed.gpu_seconds == pytest.approx(whole.gpu_seconds)


def test_rate_limits_bound_an_endpoint() -> None:
    tokens = Tokens(requests=600, prompt=60_000, completion=540_000)
    assert rate_limited(tokens, None, None) is None
    assert rate_limited(tokens, 60, None) == 600
    assert rate_limited(tokens, 60, 30_000) == 1200
