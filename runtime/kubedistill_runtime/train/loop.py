"""The training run: load, train step by step, checkpoint, export."""

import json
import math
import os
import time
from typing import Any

import torch
import torch.distributed as dist

from kubedistill_runtime.train.attention import Kernel, choose_kernel
from kubedistill_runtime.train.batch import collate
from kubedistill_runtime.train.checkpoint import Checkpointer
from kubedistill_runtime.train.covariates import Covariates
from kubedistill_runtime.train.dataset import Dataset, load_dataset
from kubedistill_runtime.train.export import export_dtype, export_model
from kubedistill_runtime.train.job import TrainJob
from kubedistill_runtime.train.lora import add_adapters
from kubedistill_runtime.train.metrics import MetricsFile
from kubedistill_runtime.train.model import (
    Objective,
    decoder_layers,
    empty_model,
    end_of_sequence_ids,
    load_model,
    read_config,
)
from kubedistill_runtime.train.optim import Optimizer, learning_rate
from kubedistill_runtime.train.packing import Plan
from kubedistill_runtime.train.parallel import World, accumulate, shard


class NonFiniteLoss(RuntimeError):
    """The loss or the gradient is infinite or not a number."""


def read_corpus(job: TrainJob, config: Any) -> Dataset:
    """The job's examples. Raises BadInput where there are none to train on."""
    return load_dataset(
        job.corpus_path,
        context_length=job.training.context_length,
        vocab_size=config.vocab_size,
        eos_token_ids=end_of_sequence_ids(job.model_path),
    )


def total_steps(job: TrainJob, plan: Plan) -> int:
    """Optimiser steps of the whole run."""
    steps = job.training.epochs * plan.steps_per_epoch
    return min(steps, job.training.max_steps or steps)


def compute_dtype(job: TrainJob, device: torch.device) -> torch.dtype:
    """The type of forward and backward."""
    bf16 = job.training.precision == "bf16" or (job.training.precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if bf16 else torch.float32


class Trainer:
    """A sharded student, its optimiser and the plan of its batches. Every rank makes one and steps in unison."""

    def __init__(self, job: TrainJob, world: World) -> None:
        spec = job.training
        self.job, self.world = job, world
        trust = job.trust_remote_code
        self.config = read_config(job.model_path, trust_remote_code=trust)
        self.dataset = read_corpus(job, self.config)
        self.export_dtype = export_dtype(self.config)
        self.kernel: Kernel = choose_kernel(spec.attention, world.device)
        on_gpu = world.device.type == "cuda"
        # One call per document is another program for each batch, which cannot be compiled once.
        compiled = spec.compile and on_gpu and self.kernel != "sdpa"
        dtype = compute_dtype(job, world.device)
        torch.manual_seed(spec.seed)
        if world.is_first:
            dtype_loaded = "auto" if on_gpu else torch.float32
            self.model = load_model(job.model_path, self.config, dtype_loaded, trust_remote_code=trust)
        else:
            self.model = empty_model(self.config, dtype, trust_remote_code=trust)
        if spec.lora:
            add_adapters(self.model, spec.lora)
        self.model.train()
        self.objective = Objective(self.model, spec.loss_chunk_tokens, compiled=compiled)
        self.root = shard(
            self.objective,
            decoder_layers(self.model),
            world,
            compute_dtype=dtype,
            checkpointing=spec.activation_checkpointing if on_gpu else "none",
            compiled=compiled,
        )
        self.optimizer = Optimizer(dict(self.model.named_parameters()), spec)
        self.plan = Plan(
            tuple(example.inputs for example in self.dataset.examples),
            spec.seed,
            spec.global_batch_size,
            spec.packed_tokens,
            world.size,
            self._quadratic_cost(),
        )
        self.total = total_steps(job, self.plan)
        self.pad_to = spec.packed_tokens if compiled else 0

    def step(self, step: int) -> dict[str, Any]:
        """Runs one optimiser step (from 0). Returns its row of metrics; `seconds` covers the whole step.

        Raises NonFiniteLoss before the parameters are touched.
        """
        started = time.perf_counter()
        # Dropout of adapters: a function of the step and rank, so that a resumed run draws the same.
        torch.manual_seed((self.job.training.seed << 32) + step * self.world.size + self.world.rank)
        examples = [self.dataset.examples[i] for i in self.plan.examples(step)]
        valid = sum(example.targets for example in examples)
        loss = torch.zeros((), device=self.world.device)
        micro_batches = self.plan.micro_batches(step)[self.world.rank]
        for number, members in enumerate(micro_batches, start=1):
            batch = collate([self.dataset.examples[i] for i in members], self.kernel, self.world.device, self.pad_to)
            accumulate(self.root, last=number == len(micro_batches))
            part = self.objective(batch, 1 / valid)
            part.backward()
            loss += part.detach()
        if self.world.size > 1:
            dist.all_reduce(loss)
        loss_value, norm = torch.stack([loss, self.optimizer.clip()]).tolist()
        if not (math.isfinite(loss_value) and math.isfinite(norm)):
            raise NonFiniteLoss(
                f"step {step + 1}: loss {loss_value}, gradient norm {norm}; "
                "lower learningRate, or look for damaged weights in the student"
            )
        rate = learning_rate(self.job.training, step, self.total)
        self.optimizer.step(rate)
        tokens = sum(len(example.token_ids) for example in examples)
        seconds = time.perf_counter() - started
        return {
            "step": step + 1,
            "total_steps": self.total,
            "epoch": (step + 1) / self.plan.steps_per_epoch,
            "loss": loss_value,
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens": tokens,
            "valid_tokens": valid,
            "tokens_per_second": tokens / seconds,
            "seconds": seconds,
        }

    def covariates(self) -> Covariates:
        """Measures this trainer's student on its corpus."""
        return Covariates(self.job, self.world, self.objective, self.dataset, self.plan, self.kernel)

    def export(self) -> None:
        """Writes the student as it is now to the job's `model/`."""
        job = self.job
        export_model(self.model, self.config, job, self.world, self.export_dtype)

    def _quadratic_cost(self) -> float:
        config = self.config
        heads = config.num_attention_heads
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        layers = decoder_layers(self.model)
        return len(layers) * width / sum(p.numel() for p in layers.parameters())


def train(job: TrainJob, world: World) -> dict[str, Any]:
    """Trains to the end, taking up the newest checkpoint if there is one, and exports the student.

    Each step leaves a row in `metrics.jsonl`; what the corpus is to the student is measured before the first and after
    the last (`covariates`). Returns the summary, also in `summary.json`; where that is already there,
    the run is done and nothing else happens.
    """
    if job.summary_path.exists():
        return dict(json.loads(job.summary_path.read_text()))
    started = time.perf_counter()
    trainer = Trainer(job, world)
    spec = job.training
    checkpoints = Checkpointer(
        job.checkpoint_dir,
        world,
        trainer.model,
        trainer.optimizer,
        keep=spec.keep_checkpoints,
        identity=job.identity(),
        before_commit=lambda: metrics.sync() if metrics else None,
    )
    covariates = trainer.covariates() if spec.measure_corpus else None
    resumed = checkpoints.latest()
    if covariates:
        covariates.before()  # before a checkpoint is loaded: it holds a student that has learnt
    if resumed:
        checkpoints.load(resumed)
    metrics = MetricsFile(job.metrics_path, resumed) if world.is_first else None
    rows = list(metrics.rows) if metrics else []
    for step in range(resumed, trainer.total):
        row = trainer.step(step)
        if metrics:
            metrics.add(row)
            rows.append(row)
        checkpoints.poll()
        if (step + 1) % spec.checkpoint_every_steps == 0 or step + 1 == trainer.total:
            checkpoints.save(step + 1)
    measured = covariates.after() if covariates else {}
    trainer.export()
    checkpoints.wait()
    summary = _summary(trainer, rows, resumed, time.perf_counter() - started) | measured
    if metrics:
        metrics.close()
        temporary = job.summary_path.with_name(job.summary_path.name + ".tmp")
        with temporary.open("w") as out:
            out.write(json.dumps(summary, indent=2) + "\n")
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(job.summary_path)
    return summary


def _summary(trainer: Trainer, rows: list[dict[str, Any]], resumed: int, seconds: float) -> dict[str, Any]:
    busy = sum(row["seconds"] for row in rows)
    return {
        **trainer.dataset.counts(),
        "steps": trainer.total,
        "resumed_from_step": resumed,
        "epochs": trainer.total / trainer.plan.steps_per_epoch,
        "tokens": sum(row["tokens"] for row in rows),
        "valid_tokens": sum(row["valid_tokens"] for row in rows),
        "tokens_per_second": sum(row["tokens"] for row in rows) / busy if busy else 0.0,
        "first_loss": rows[0]["loss"] if rows else None,
        "last_loss": rows[-1]["loss"] if rows else None,
        "seconds": seconds,
        "world_size": trainer.world.size,
        "device": trainer.world.device.type,
        "trainable_parameters": sum(p.numel() for p in trainer.optimizer.parameters.values()),
    }
