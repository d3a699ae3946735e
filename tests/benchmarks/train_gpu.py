"""How much of a GPU the trainer uses: a 4B student (Qwen3-4B's shape, random weights), 16,384 packed tokens a step.

Needs this source tree, torch and transformers, nothing else:

    PYTHONPATH=runtime:crds python -m tests.benchmarks.train_gpu --json

Each variant runs in a process of its own: our trainer's parts under each activation checkpointing policy, and a plain
loop (transformers' own model and loss, bf16 autocast, its gradient checkpointing, torch's AdamW). Without a GPU
everything runs at a toy size, says so, and proves nothing but that it runs.

Model FLOPs count forward and backward once, whatever is recomputed: 6 per weight and token, and for attention the lower
triangle of each document only. MFU is their share of the GPU's dense bf16 peak.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "H800": 989e12, "B200": 2250e12, "A100": 312e12}
"""Dense bf16 of the vendor's data sheets (SXM), by a part of the device's name."""
WARM_UP_STEPS = 3
PROMPT_TOKENS = 200
OUT_OF_MEMORY = 77
"""Exit code of a variant that did not fit."""


@dataclass(frozen=True)
class Shape:
    """A student and the documents of one micro-batch."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    intermediate: int
    vocabulary: int
    documents: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return sum(self.documents)

    def config(self) -> Any:
        from transformers import Qwen3Config

        return Qwen3Config(
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head,
            intermediate_size=self.intermediate,
            vocab_size=self.vocabulary,
            max_position_embeddings=max(40_960, self.tokens),
            tie_word_embeddings=True,
            use_cache=False,
        )

    def flops(self, targets: int) -> float:
        """Model FLOPs of one step: forward and twice as much backward."""
        attention_weights = self.hidden * self.head * (2 * self.heads + 2 * self.kv_heads)
        weights = self.layers * (attention_weights + 3 * self.hidden * self.intermediate)
        triangle = sum(n * n for n in self.documents) * 2 * self.heads * self.head * self.layers
        return 3 * (2 * weights * self.tokens + 2 * self.hidden * self.vocabulary * targets + triangle)


QWEN3_4B = (2560, 36, 32, 8, 128, 9728, 151_936)
TOY = (64, 2, 4, 2, 16, 128, 512)
SHAPES = {
    "one-trace": Shape(*QWEN3_4B, (16_384,)),
    "mixed-traces": Shape(*QWEN3_4B, (7168, 4096, 2560, 1536, 1024)),
    "toy": Shape(*TOY, (256, 128, 64)),
}


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_flops() -> float | None:
    """The device's peak, None where it is not in the table."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def make_examples(shape: Shape, seed: int) -> list[Any]:
    """Random traces whose inputs have the shape's lengths."""
    from kubedistill_runtime.train.dataset import Example

    dice = np.random.default_rng(seed)
    prompt = min(PROMPT_TOKENS, min(shape.documents) // 2)
    return [Example(dice.integers(0, shape.vocabulary, n + 1).astype(np.int32), prompt) for n in shape.documents]


def seconds_of(work: Callable[[], Any], repeats: int, warm_up: int = WARM_UP_STEPS) -> float:
    """Median seconds of `work`, the device waited for."""
    taken = []
    for number in range(warm_up + repeats):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= warm_up:
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def ours(shape: Shape, checkpointing: str, compiled: bool, kernel: str, repeats: int) -> dict[str, Any]:
    """Whole steps of the trainer, then its parts by themselves."""
    from kubedistill_runtime.train.attention import choose_kernel
    from kubedistill_runtime.train.batch import collate
    from kubedistill_runtime.train.model import Objective, decoder_layers, empty_model
    from kubedistill_runtime.train.optim import Optimizer, local
    from kubedistill_runtime.train.parallel import accumulate, join_world, leave_world, shard

    world = join_world("auto")
    try:
        chosen = choose_kernel(kernel, world.device)
        dtype = torch.bfloat16 if world.device.type == "cuda" else torch.float32
        model = empty_model(shape.config(), dtype).train()
        objective = Objective(model, 2048, compiled=compiled)
        root = shard(
            objective,
            decoder_layers(model),
            world,
            compute_dtype=dtype,
            checkpointing=checkpointing,
            compiled=compiled,
        )
        with torch.no_grad():
            for parameter in model.parameters():
                shard_of = local(parameter)
                shard_of.normal_(0, 0.02) if parameter.ndim > 1 else shard_of.fill_(1.0)
        spec = SimpleNamespace(
            max_grad_norm=1.0, weight_decay=0.0, learning_rate=1e-5, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8
        )
        optimizer = Optimizer(dict(model.named_parameters()), spec)
        batches = itertools.cycle(make_examples(shape, seed) for seed in range(4))

        def step() -> None:
            examples = next(batches)
            batch = collate(examples, chosen, world.device)
            accumulate(root, last=True)
            objective(batch, 1 / sum(e.targets for e in examples)).backward()
            optimizer.clip().item()
            optimizer.step(1e-5)

        seconds = seconds_of(step, repeats)
        memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0

        def without_optimizer() -> None:
            examples = next(batches)
            objective(collate(examples, chosen, world.device), 1.0 / shape.tokens).backward()
            for parameter in model.parameters():
                parameter.grad = None

        both = seconds_of(without_optimizer, repeats, warm_up=1)
        del optimizer
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        parts = measure_parts(shape, chosen, dtype, compiled, repeats)
        known = sum(parts.values())
        parts["optimizer and clipping"] = seconds - both
        parts["norms, rotary, residuals, gathers, recomputation"] = both - known
        return {"seconds": seconds, "kernel": chosen, "peak_memory_gib": round(memory, 1), "parts": parts}
    finally:
        leave_world()


def measure_parts(shape: Shape, kernel: str, dtype: torch.dtype, compiled: bool, repeats: int) -> dict[str, float]:
    """Seconds of each kind of operation by itself, forward and backward, over all layers, nothing recomputed."""
    from kubedistill_runtime.train.attention import make_documents, packed_attention
    from kubedistill_runtime.train.loss import chunked_cross_entropy

    here = device()
    documents = make_documents(shape.documents, kernel, here)  # type: ignore[arg-type]

    def leaf(*size: int) -> torch.Tensor:
        return (torch.randn(*size, device=here, dtype=dtype) * 0.02).requires_grad_()

    q_BHTD = leaf(1, shape.tokens, shape.heads, shape.head).transpose(1, 2)
    k_BKTD, v_BKTD = (leaf(1, shape.tokens, shape.kv_heads, shape.head).transpose(1, 2) for _ in range(2))
    holder = torch.nn.Module()

    def attention() -> None:
        out, _ = packed_attention(holder, q_BHTD, k_BKTD, v_BKTD, None, documents=documents)
        torch.autograd.grad(out, (q_BHTD, k_BKTD, v_BKTD), torch.ones_like(out))

    def product(inputs: int, outputs: int) -> Callable[[], None]:
        x_TI, w_OI = leaf(shape.tokens, inputs), leaf(outputs, inputs)
        grad_TO = torch.randn(shape.tokens, outputs, device=here, dtype=dtype)

        def work() -> None:
            torch.autograd.grad(torch.nn.functional.linear(x_TI, w_OI), (x_TI, w_OI), grad_TO)

        return work

    hidden_VE, weight_WE = leaf(shape.tokens, shape.hidden), leaf(shape.vocabulary, shape.hidden)
    target_V = torch.randint(0, shape.vocabulary, (shape.tokens,), device=here)

    def loss() -> None:
        value = chunked_cross_entropy(hidden_VE, weight_WE, target_V, scale=1.0, chunk=2048, compiled=compiled)
        torch.autograd.grad(value, (hidden_VE, weight_WE))

    wide, narrow = shape.heads * shape.head, 2 * shape.kv_heads * shape.head
    projections = [product(shape.hidden, wide + narrow), product(wide, shape.hidden)]
    mlp = [product(shape.hidden, 2 * shape.intermediate), product(shape.intermediate, shape.hidden)]
    return {
        "attention": shape.layers * seconds_of(attention, repeats),
        "attention's products": shape.layers * sum(seconds_of(work, repeats) for work in projections),
        "mlp's products": shape.layers * sum(seconds_of(work, repeats) for work in mlp),
        "loss": seconds_of(loss, repeats),
    }


def plain(shape: Shape, repeats: int) -> dict[str, Any]:
    """The loop one would write: padding-free batch by position ids, all logits at once."""
    from transformers import AutoModelForCausalLM

    here = device()
    on_gpu = here.type == "cuda"
    with here:
        model = AutoModelForCausalLM.from_config(shape.config(), dtype=torch.float32, attn_implementation="sdpa")
    model.train()
    model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batches = itertools.cycle(make_examples(shape, seed) for seed in range(4))

    def step() -> None:
        examples = next(batches)
        ids = torch.cat([torch.from_numpy(e.token_ids[:-1].astype(np.int64)) for e in examples]).to(here)
        labels = torch.cat([torch.from_numpy(e.token_ids[1:].astype(np.int64)) for e in examples]).to(here)
        positions = torch.cat([torch.arange(e.inputs) for e in examples]).to(here)
        prompt = torch.cat([torch.arange(e.inputs) < e.prompt_tokens - 1 for e in examples]).to(here)
        with torch.autocast(here.type, torch.bfloat16, enabled=on_gpu):
            logits = model(input_ids=ids[None], position_ids=positions[None]).logits[0]
        loss = torch.nn.functional.cross_entropy(logits.float(), labels.masked_fill(prompt, -100))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        optimizer.step()
        optimizer.zero_grad()

    seconds = seconds_of(step, repeats)
    memory = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0
    return {"seconds": seconds, "kernel": "sdpa", "peak_memory_gib": round(memory, 1), "parts": {}}


def run_variant(name: str, shape_name: str, kernel: str, repeats: int) -> int:
    """One variant in this process; prints its figures."""
    shape = SHAPES[shape_name]
    try:
        if name == "plain":
            figures = plain(shape, repeats)
        else:
            checkpointing, _, compiled = name.partition("+")
            figures = ours(shape, checkpointing, compiled == "compile", kernel, repeats)
    except torch.OutOfMemoryError:
        return OUT_OF_MEMORY
    targets = sum(example.targets for example in make_examples(shape, 0))
    flops, peak = shape.flops(targets), peak_flops()
    figures |= {
        "tokens_per_second": round(shape.tokens / figures["seconds"]),
        "model_tflops": round(flops / figures["seconds"] / 1e12, 3),
        "mfu": round(flops / figures["seconds"] / peak, 4) if peak else None,
        "parts": {part: round(seconds, 4) for part, seconds in figures["parts"].items()},
        "seconds": round(figures["seconds"], 4),
    }
    print(json.dumps(figures), flush=True)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print each variant as it is measured and, with --json, one line of JSON."""
    parser = argparse.ArgumentParser(description="tokens per second and model FLOPs utilisation of a 4B student")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--steps", type=int, default=5, help="timed steps per variant")
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), help="default: both 16k shapes, or the toy")
    parser.add_argument("--kernel", choices=["auto", "flash", "flex", "sdpa"], default="auto")
    parser.add_argument(
        "--variants",
        nargs="+",
        default=["none+compile", "selective+compile", "full+compile", "full", "plain"],
        help="<none|selective|full>[+compile], or plain",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        return run_variant(args.worker, args.shapes[0], args.kernel, args.steps)
    on_gpu = torch.cuda.is_available()
    shapes = args.shapes or (["mixed-traces", "one-trace"] if on_gpu else ["toy"])
    variants = args.variants
    if not on_gpu:
        print("no GPU here: a toy size on the CPU, without compilation; the figures mean nothing", flush=True)
        variants = list(dict.fromkeys(variant.removesuffix("+compile") for variant in variants))
    results = []
    for shape, variant in itertools.product(shapes, variants):
        command = [sys.executable, "-m", "tests.benchmarks.train_gpu", "--worker", variant, "--shapes", shape]
        command += ["--kernel", args.kernel, "--steps", str(args.steps)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode == OUT_OF_MEMORY:
            figures: dict[str, Any] = {"failed": "out of memory"}
        elif done.returncode:
            figures = {"failed": f"exit code {done.returncode}"}
        else:
            figures = json.loads(done.stdout.splitlines()[-1])
        results.append({"shape": shape, "variant": variant, **figures})
        print(json.dumps(results[-1]), flush=True)
    if args.json:
        best = max((r for r in results if "seconds" in r), key=lambda r: r["model_tflops"], default=None)
        print(
            json.dumps(
                {
                    "benchmark": "train_gpu",
                    "device": torch.cuda.get_device_name() if on_gpu else "cpu, toy size",
                    "torch": torch.__version__,
                    "shapes": {name: asdict(SHAPES[name]) for name in shapes},
                    "mfu": best["mfu"] if best else None,
                    "results": results,
                }
            )
        )
    return 0 if all("failed" not in r or r["failed"] == "out of memory" for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
