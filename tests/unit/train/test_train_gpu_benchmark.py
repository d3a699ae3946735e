"""The GPU benchmark as far as a machine without a GPU can run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def run() -> list[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.benchmarks.train_gpu", "--steps", "2", "--warmup", "1", "--traces", "4"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_without_a_gpu_a_toy_runs_and_says_so():
    *said, last = run()
    result = json.loads(last)
    assert result["toy"] is True
    assert any("toy" in line for line in said)
    for side in ("ours", "plain"):
        assert result[side]["tokens_per_second"] > 0
        assert len(result[side]["step_seconds"]) == 2
        assert "mfu" not in result[side], "a CPU has no utilisation to claim"
    # Both start from the same weights and see the same traces.
    assert abs(result["ours"]["first_loss"] - result["plain"]["first_loss"]) < 1e-3
    assert abs(result["ours"]["last_loss"] - result["plain"]["last_loss"]) < 1e-3
    names = {"attention", "mlp", "projections_and_norms", "loss", "optimizer", "rest"}
    assert result["parts_seconds"].keys() == names
    assert sum(result["parts_seconds"].values()) > 0
    assert result["ratio"] > 0


def test_flops_follow_the_stated_formula():
    from types import SimpleNamespace

    import numpy as np

    from kubedistill_runtime.train.dataset import Example
    from tests.benchmarks.train_gpu import model_flops

    config = SimpleNamespace(hidden_size=4, vocab_size=10, num_hidden_layers=2, num_attention_heads=2, head_dim=3)
    traces = [Example(np.zeros(n, np.int32), 1) for n in (6, 11)]
    linear = 6 * 100 * (5 + 10)
    head = 6 * 4 * 10 * (5 + 10)
    attention = 12 * 2 * 2 * 3 * (25 + 100) / 2
    assert model_flops(config, 100, traces) == linear + head + attention
