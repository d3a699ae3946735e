"""Training tokens per second against TRL's SFTTrainer, on the CPU.

Same model, same traces, same dtype (fp32), same number of processes, about the same tokens per optimiser step; TRL
packs with its default strategy (best-fit decreasing) and its chunked loss. What counts are real tokens in steady state:
the first steps, loading and saving are left out. Runs alternate, each in processes of its own.

    python -m tests.benchmarks.train_cpu --json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STEPS = 16
WARM_UP_STEPS = 4
TRACES_PER_STEP = 32
PACKED_TOKENS = 4096
CONTEXT_LENGTH = 1024
TRL_LENGTH = 512
"""TRL's fastest setting on a CPU: rows of 512 tokens, one a pass, with gradients accumulated. Without flash attention
it attends over whole rows under a mask; four rows of 1,024 in one pass, flattened by its collator, take 8 times as
long."""
PROMPT_TOKENS = 15
LENGTHS = (40, 200)


@dataclass(frozen=True)
class Case:
    """A model's shape and the number of processes."""

    name: str
    hidden: int
    layers: int
    intermediate: int
    vocabulary: int
    processes: int


CASES = (
    Case("tiny", 96, 3, 256, 320, 1),
    Case("small", 256, 6, 768, 32_000, 1),
    Case("small", 256, 6, 768, 32_000, 2),
)


def prepare(case: Case, folder: Path) -> None:
    """Writes model/ (random weights) and corpus.parquet."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    from kubedistill_runtime.tiny import embedded_path

    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=case.hidden,
        num_hidden_layers=case.layers,
        intermediate_size=case.intermediate,
        vocab_size=case.vocabulary,
        num_attention_heads=case.hidden // 32,
        num_key_value_heads=case.hidden // 32,
        head_dim=32,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        eos_token_id=2,
        pad_token_id=0,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(embedded_path("models/student")).save_pretrained(folder / "model")
    dice = np.random.default_rng(0)
    count = TRACES_PER_STEP * STEPS
    rows = [dice.integers(3, 256, size=dice.integers(*LENGTHS)).tolist() for _ in range(count)]
    table = pa.table(
        {
            "question_id": [f"q{i:05d}" for i in range(count)],
            "sample_index": pa.array([0] * count, pa.int32()),
            "prompt_token_ids": [row[:PROMPT_TOKENS] for row in rows],
            "response_token_ids": [[*row[PROMPT_TOKENS:], 2] for row in rows],
        }
    )
    pq.write_table(table, folder / "corpus.parquet")


def ours(folder: Path) -> dict[str, float]:
    """Trains with kubedistill's trainer; tokens and seconds after the warm-up."""
    from kubedistill_api.training import TrainingSpec
    from kubedistill_runtime.train.job import TrainJob
    from kubedistill_runtime.train.loop import Trainer
    from kubedistill_runtime.train.parallel import join_world, leave_world

    spec = TrainingSpec(
        epochs=1,
        max_steps=STEPS,
        learning_rate=1e-4,
        global_batch_size=TRACES_PER_STEP,
        context_length=CONTEXT_LENGTH,
        micro_batch_tokens=PACKED_TOKENS,
        checkpoint_every_steps=10 * STEPS,
    )
    job = TrainJob(
        model_path=folder / "model", corpus_path=folder / "corpus.parquet", output_dir=folder / "out", training=spec
    )
    ends: list[tuple[float, int]] = []
    world = join_world("cpu")
    try:
        trainer = Trainer(job, world)
        for step in range(trainer.total):
            row = trainer.step(step)
            ends.append((time.perf_counter(), row["tokens"]))
    finally:
        leave_world()
    return _steady(ends) if ends else {}


def trl(folder: Path) -> dict[str, float]:
    """Trains with TRL's SFTTrainer; tokens of rank 0's batches times the ranks, and seconds after the warm-up."""
    import pyarrow.parquet as pq
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    processes = int(os.environ.get("WORLD_SIZE", 1))
    rows = pq.read_table(folder / "corpus.parquet").to_pylist()
    data = Dataset.from_list(
        [
            {
                "input_ids": row["prompt_token_ids"] + row["response_token_ids"],
                "completion_mask": [0] * len(row["prompt_token_ids"]) + [1] * len(row["response_token_ids"]),
            }
            for row in rows
        ]
    )
    options = SFTConfig(
        output_dir=str(folder / "trl"),
        max_length=TRL_LENGTH,
        packing=True,
        loss_type="chunked_nll",
        per_device_train_batch_size=1,
        gradient_accumulation_steps=PACKED_TOKENS // TRL_LENGTH // processes,
        learning_rate=1e-4,
        max_steps=STEPS,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_num_workers=0,
    )
    ends: list[tuple[float, int]] = []
    tokens = 0

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            nonlocal tokens
            ends.append((time.perf_counter(), tokens * processes))
            tokens = 0

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="sdpa")
    trainer = SFTTrainer(
        model=model,
        args=options,
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[Clock()],
    )
    collate = trainer.data_collator

    def counting(examples: list[dict[str, Any]]) -> Any:
        nonlocal tokens
        tokens += sum(len(example["input_ids"]) for example in examples)
        return collate(examples)

    trainer.data_collator = counting
    trainer.train()
    return _steady(ends)


def _steady(ends: list[tuple[float, int]]) -> dict[str, float]:
    seconds = ends[-1][0] - ends[WARM_UP_STEPS - 1][0]
    return {"tokens": sum(tokens for _, tokens in ends[WARM_UP_STEPS:]), "seconds": seconds}


def measure(case: Case, who: str) -> float:
    """Tokens per second of one run in fresh processes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(case, folder)
        command = [sys.executable]
        if case.processes > 1:
            command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(case.processes)]
        command += ["-m", "tests.benchmarks.train_cpu", "--worker", who, "--folder", name]
        # For both: spinning OpenMP threads measure the neighbours on the machine and not the trainer.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if run.returncode:
            raise RuntimeError(f"{who} on {case.name} ended with {run.returncode}:\n{run.stderr[-2000:]}")
        figures = json.loads(next(line for line in run.stdout.splitlines() if line.startswith('{"tokens"')))
    return figures["tokens"] / figures["seconds"]


def main(argv: Sequence[str] | None = None) -> int:
    """Print each case as it is measured and, with --json, one line of JSON."""
    parser = argparse.ArgumentParser(description="our trainer against TRL's SFTTrainer")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--worker", choices=["ours", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        figures = (ours if args.worker == "ours" else trl)(args.folder)
        if figures and int(os.environ.get("RANK", 0)) == 0:
            print(json.dumps(figures), flush=True)
        return 0
    results = []
    for case in CASES:
        speeds: dict[str, list[float]] = {"ours": [], "trl": []}
        for _ in range(args.rounds):
            for who, measured in speeds.items():
                measured.append(round(measure(case, who)))
                print(f"{case.name} x{case.processes} {who}: {measured[-1]} tokens/s", file=sys.stderr, flush=True)
        ratio = statistics.median(speeds["ours"]) / statistics.median(speeds["trl"])
        results.append({**asdict(case), **speeds, "ratio": round(ratio, 2)})
        print(
            f"{case.name} x{case.processes}: ours {speeds['ours']}, TRL {speeds['trl']}, ratio {ratio:.2f}", flush=True
        )
    if args.json:
        print(json.dumps({"benchmark": "train_cpu", "ratio": min(r["ratio"] for r in results), "cases": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
