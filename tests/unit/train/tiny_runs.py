"""Tiny models and corpora, and training runs in processes of their own."""

import json
import multiprocessing
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

VOCAB = 128
EOS = 2
NEVER_S = 600.0

# Forked from one server that has imported everything, a process of a world starts at once instead of after seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "kubedistill_runtime.train.loop",
        "torch.distributed.checkpoint",
        "transformers.models.qwen3.modeling_qwen3",
        "pyarrow.parquet",
    ]
)


def tiny_config(**changes: Any) -> Any:
    from transformers import Qwen3Config

    fields = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "eos_token_id": EOS,
        "initializer_range": 0.1,
    }
    return Qwen3Config(**(fields | changes))


def save_model(config: Any, path: Path) -> Path:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(path)
    return path


def rows(count: int, seed: int = 0, shortest: int = 6, longest: int = 60) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    out = []
    for number in range(count):
        length = int(rng.integers(shortest, longest + 1))
        prompt = int(rng.integers(1, length // 2))
        ids = rng.integers(3, VOCAB, length).tolist()
        out.append(
            {
                "question_id": f"q{number:03d}",
                "sample_index": 0,
                "prompt_token_ids": ids[:prompt],
                "response_token_ids": [*ids[prompt:-1], EOS],
            }
        )
    return out


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in records))
    return path


def _process(rank: int, size: int, port: int, job_file: str, pause: float, unreduced: int | None) -> None:
    import torch.distributed as dist

    from kubedistill_runtime.train import loop, parallel, worker

    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(max(size, 2)),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    assert not dist.is_initialized()
    if pause:
        step = loop.Trainer.step

        def paused(self: Any, number: int) -> Any:
            time.sleep(pause if number + 1 < self.total else NEVER_S)
            return step(self, number)

        loop.Trainer.step = paused
    if unreduced is not None:
        parallel.UNREDUCED_BYTES_MAX = unreduced
    raise SystemExit(worker.main([job_file]))


def start(job: Any, size: int, pause: float = 0.0, unreduced: int | None = None) -> list[Any]:
    """Starts the job's processes; with a `pause`, of seconds before each step, they have to be killed.

    They never come to the last step then, however late whoever kills them is. `unreduced` replaces the bytes of
    gradients that may wait for the last micro-batch.
    """
    job.output_dir.mkdir(parents=True, exist_ok=True)
    job_file = job.output_dir / "job.json"
    job_file.write_text(job.model_dump_json(by_alias=True))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = (size, port, str(job_file), pause, unreduced)
    processes = [FORKS.Process(target=_process, args=(r, *arguments)) for r in range(size)]
    for process in processes:
        process.start()
    return processes


def finish(processes: list[Any], seconds: float = 120.0) -> list[int]:
    """Waits for processes and returns their exit codes; kills what is left."""
    try:
        for process in processes:
            process.join(seconds)
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def run(job: Any, size: int = 1, unreduced: int | None = None) -> list[dict[str, Any]]:
    """Runs a job to its end in `size` processes and returns its metrics."""
    from kubedistill_runtime.train.metrics import read_metrics

    assert finish(start(job, size, unreduced=unreduced)) == [0] * size
    return read_metrics(job.metrics_path)
