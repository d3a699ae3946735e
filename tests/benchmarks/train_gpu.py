"""Our trainer's step against a plain training loop on one GPU: tokens per second, model FLOPs utilisation, memory.

    python -m tests.benchmarks.train_gpu [--json] [--steps N] [--context 16384] [--no-plain]

The model has the shape of Qwen3-4B and random weights; the traces are random tokens of realistic lengths (lognormal,
about 6k tokens on average, cut to the context). Ours: fp32 master weights, bf16 compute, packed traces, chunked loss
at the response tokens. Plain: the transformers model as it comes, fp32 weights under bf16 autocast, sdpa, one trace
per forward pass, all logits, gradient checkpointing, fused AdamW. Both take the same steps over the same traces.

Model FLOPs of a step, recomputation not counted:
6 x (parameters of the decoder layers) x tokens + 6 x hidden x vocabulary x (tokens with loss)
+ 12 x layers x heads x head_dim x n**2 / 2 for each trace of n tokens.

It needs the source tree, torch, transformers and pydantic. Without a GPU it runs a toy model on the CPU, which only
shows that it runs: `toy` is then true and there is no utilisation.
"""

import argparse
import gc
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "crds"), str(ROOT / "runtime")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from kubedistill_api.training import TrainingSpec  # noqa: E402
from kubedistill_runtime.train.attention import NAME, choose_kernel, packed_attention, register  # noqa: E402
from kubedistill_runtime.train.batch import collate  # noqa: E402
from kubedistill_runtime.train.dataset import Example  # noqa: E402
from kubedistill_runtime.train.loss import chunked_cross_entropy  # noqa: E402
from kubedistill_runtime.train.model import Objective, checked, decoder_layers  # noqa: E402
from kubedistill_runtime.train.optim import Optimizer  # noqa: E402
from kubedistill_runtime.train.packing import pack  # noqa: E402
from kubedistill_runtime.train.parallel import World, accumulate, join_world, leave_world, shard  # noqa: E402

QWEN3_4B = {
    "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 128, "intermediate_size": 9728, "vocab_size": 151936, "tie_word_embeddings": True,
    "max_position_embeddings": 40960,
}  # fmt: skip
TOY = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "intermediate_size": 128, "vocab_size": 512, "tie_word_embeddings": True,
}  # fmt: skip
TOY_CONTEXT = 128

MEAN_SHARE = 6000 / 16384
"""Mean trace length as a share of the context."""
SIGMA = 0.7
"""Spread of the lengths' logarithm: the longest twentieth of reasoning traces is about three times the median."""

PEAK_TFLOPS = {
    "H200": 989, "H100 PCIe": 756, "H100": 989, "H800": 989, "H20": 148, "B200": 2250,
    "A100": 312, "L40S": 362, "L4": 121,
}  # fmt: skip
"""Dense bf16 by the vendors' data sheets, for the first name that the device's name contains."""

Step = Sequence[Example]


def peak_tflops(device: torch.device) -> tuple[float, str]:
    """The GPU's dense bf16 peak and where it is from: the data sheet, or a big matrix product measured now."""
    name = torch.cuda.get_device_name(device)
    for known, peak in PEAK_TFLOPS.items():
        if known in name:
            return float(peak), "data sheet"
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / timed(lambda: a @ b, device, 20) / 1e12, "measured matrix product"


def timed(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median seconds of `work`, after two calls that do not count (the first may compile)."""
    seconds = []
    for number in range(repeats + 2):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        if number >= 2:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def make_steps(count: int, traces: int, context: int, vocab: int) -> list[Step]:
    """`count` steps of `traces` random traces; a twelfth of each trace, at most 512 tokens, is its prompt."""
    rng = np.random.default_rng(0)
    mu = math.log(MEAN_SHARE * context) - SIGMA**2 / 2

    def trace() -> Example:
        length = int(np.clip(rng.lognormal(mu, SIGMA), 24, context))
        return Example(rng.integers(3, vocab, length).astype(np.int32), min(512, length // 12))

    return [[trace() for _ in range(traces)] for _ in range(count)]


def model_flops(config: Any, layer_parameters: int, step: Step) -> float:
    """Floating-point operations of one step by the module's formula."""
    tokens = sum(example.inputs for example in step)
    head = 6 * config.hidden_size * config.vocab_size * sum(example.targets for example in step)
    squares = sum(example.inputs**2 for example in step)
    attention = 12 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * squares / 2
    return 6 * layer_parameters * tokens + head + attention


def make_model(config: Any, device: torch.device, attention: str) -> Any:
    """The model with random fp32 weights, made on the device."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    return model.train()


class Ours:
    """The trainer's parts put together as `train.loop.Trainer` does, without files."""

    def __init__(self, config: Any, args: argparse.Namespace, world: World, dtype: torch.dtype) -> None:
        spec = TrainingSpec(context_length=args.context, micro_batch_tokens=args.tokens)
        register()
        self.kernel = choose_kernel(args.attention, world.device)
        self.world, self.capacity = world, args.tokens
        self.pad_to = args.tokens if args.compile else 0
        model = checked(make_model(config, world.device, NAME))
        self.objective = Objective(model, args.loss_chunk, compiled=args.compile)
        self.root = shard(
            self.objective, decoder_layers(model), world,
            compute_dtype=dtype, checkpointing=args.checkpointing, compiled=args.compile,
        )  # fmt: skip
        self.optimizer = Optimizer(dict(model.named_parameters()), spec)
        self.optimizer_seconds: list[float] = []

    def packed(self, step: Step) -> list[list[Example]]:
        bins = pack({i: example.inputs for i, example in enumerate(step)}, self.capacity, 1, 0.0)
        return [[step[i] for i in members] for members in bins]

    def __call__(self, step: Step) -> float:
        valid = sum(example.targets for example in step)
        loss = torch.zeros((), device=self.world.device)
        micro_batches = self.packed(step)
        for number, members in enumerate(micro_batches, start=1):
            batch = collate(members, self.kernel, self.world.device, self.pad_to)
            accumulate(self.root, last=number == len(micro_batches))
            part = self.objective(batch, 1 / valid)
            part.backward()
            loss += part.detach()
        synchronize(self.world.device)
        started = time.perf_counter()
        self.optimizer.clip()
        self.optimizer.step(1e-5)
        synchronize(self.world.device)
        self.optimizer_seconds.append(time.perf_counter() - started)
        return loss.item()


class Plain:
    """The loop one writes first."""

    def __init__(self, config: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.model = make_model(config, device, "sdpa")
        self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.adamw = torch.optim.AdamW(self.model.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
        self.device, self.dtype = device, dtype

    def __call__(self, step: Step) -> float:
        valid = sum(example.targets for example in step)
        loss = torch.zeros((), device=self.device)
        for example in step:
            ids = torch.from_numpy(example.token_ids.astype(np.int64)).to(self.device)[None]
            labels = ids[0, 1:].clone()
            labels[: example.prompt_tokens - 1] = -100
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits[0]
                part = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / valid
            del logits
            part.backward()
            loss += part.detach()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return loss.item()


def measure(side: Callable[[Step], float], steps: Sequence[Step], warmup: int, device: torch.device) -> dict[str, Any]:
    """Runs all steps, of which the first `warmup` do not count. Peak memory is that of the counted ones."""
    started = time.perf_counter()
    losses = [side(step) for step in steps[:warmup]]
    synchronize(device)
    warm = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for step in steps[warmup:]:
        begun = time.perf_counter()
        losses.append(side(step))
        synchronize(device)
        seconds.append(time.perf_counter() - begun)
    tokens = sum(example.inputs for step in steps[warmup:] for example in step)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {
        "tokens_per_second": tokens / sum(seconds),
        "seconds_per_step": statistics.mean(seconds),
        "step_seconds": seconds,
        "warmup_seconds": warm - started,
        "peak_memory_gib": peak,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` returns, or that the GPU's memory did not suffice."""
    try:
        return work()
    except torch.cuda.OutOfMemoryError as error:
        return {"out_of_memory": str(error).splitlines()[0]}
    finally:
        torch._dynamo.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def part_seconds(config: Any, args: argparse.Namespace, members: Step, world: World, dtype: torch.dtype) -> dict:
    """Seconds of one micro-batch's parts, forward and backward, each timed alone; layers' parts times the layers."""
    device = world.device
    batch = collate(members, choose_kernel(args.attention, device), device, args.tokens if args.compile else 0)
    length, valid = len(batch.input_ids), len(batch.targets)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=dtype).mul_(0.5).requires_grad_()

    def both(forward: Callable[[], torch.Tensor]) -> float:
        def work() -> None:
            out = forward()
            out.backward(torch.ones_like(out))

        return timed(work, device, 5)

    heads, groups, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    q, k, v = (random(1, length, n, size).transpose(1, 2) for n in (heads, groups, groups))
    documents = batch.documents
    layers = config.num_hidden_layers
    attention = both(lambda: packed_attention(torch.nn.Identity(), q, k, v, None, documents=documents)[0]) * layers

    whole = make_model(type(config)(**{**config.to_dict(), "num_hidden_layers": 1, "layer_types": None}), device, NAME)
    layer = decoder_layers(whole)[0].to(dtype)
    hidden = random(1, length, config.hidden_size)
    rotary = whole.base_model.rotary_emb(hidden, batch.position_ids[None])
    mlp_forward, layer_forward = layer.mlp.forward, layer.forward
    if args.compile:
        mlp_forward, layer_forward = torch.compile(mlp_forward), torch.compile(layer_forward)
    mlp = both(lambda: mlp_forward(hidden)) * layers
    one = both(
        lambda: layer_forward(
            hidden, position_ids=batch.position_ids[None], position_embeddings=rotary, documents=documents
        )
    )
    weight, states = random(config.vocab_size, config.hidden_size), random(valid, config.hidden_size)
    loss = both(
        lambda: chunked_cross_entropy(
            states, weight, batch.targets, scale=1 / valid, chunk=args.loss_chunk, compiled=args.compile
        )
    )
    return {"attention": attention, "mlp": mlp, "projections_and_norms": one * layers - attention - mlp, "loss": loss}


def ours(config: Any, args: argparse.Namespace, world: World, dtype: torch.dtype, steps: list[Step]) -> dict[str, Any]:
    """Our side's figures, with the parts of a mean step in seconds."""
    side = Ours(config, args, world, dtype)
    result = measure(side, steps, args.warmup, world.device)
    result["kernel"] = side.kernel
    result["optimizer_seconds"] = statistics.mean(side.optimizer_seconds[args.warmup :])
    counted = [side.packed(step) for step in steps[args.warmup :]]
    result["micro_batches_per_step"] = statistics.mean(len(bins) for bins in counted)
    result["largest_micro_batch"] = counted[0][0]
    return result


def parts_of(result: dict[str, Any], alone: dict[str, float]) -> dict[str, float]:
    """Seconds of a mean step; `rest` has recomputation, embedding, FSDP's copies and the host's waiting."""
    parts = {name: seconds * result["micro_batches_per_step"] for name, seconds in alone.items()}
    parts["optimizer"] = result["optimizer_seconds"]
    return parts | {"rest": result["seconds_per_step"] - sum(parts.values())}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.train_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    parser.add_argument("--steps", type=int, default=5, help="steps that count")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--traces", type=int, default=12, help="traces of a step")
    parser.add_argument("--context", type=int, default=16384, help="longest trace in tokens")
    parser.add_argument("--tokens", type=int, help="tokens of a micro-batch; the context without")
    parser.add_argument("--loss-chunk", type=int, default=2048, help="tokens whose logits exist at the same time")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="default: unless sdpa computes attention"
    )
    parser.add_argument("--checkpointing", choices=("full", "selective", "none"), default="selective")
    parser.add_argument("--attention", choices=("auto", "flash", "flex", "sdpa"), default="auto")
    parser.add_argument("--no-plain", action="store_true", help="leave out the plain loop")
    parser.add_argument("--no-parts", action="store_true", help="leave out the times of the parts")
    args = parser.parse_args(argv)

    from transformers import Qwen3Config

    world = join_world("auto")
    try:
        toy = world.device.type != "cuda"
        config = Qwen3Config(**(TOY if toy else QWEN3_4B))
        args.context = min(args.context, TOY_CONTEXT) if toy else args.context
        args.tokens = max(args.tokens or 0, args.context)
        # As the trainer does: with one call per document every batch would be another program.
        compilable = choose_kernel(args.attention, world.device) != "sdpa"
        args.compile = compilable and args.compile is not False
        result = benchmark(config, args, world, toy)
    finally:
        leave_world()
    if not args.json:
        print(summary(result))
    print(json.dumps(result), flush=True)
    return 0


def benchmark(config: Any, args: argparse.Namespace, world: World, toy: bool) -> dict[str, Any]:
    """All figures of one run."""
    device = world.device
    dtype = torch.float32 if toy else torch.bfloat16
    steps = make_steps(args.warmup + args.steps, args.traces, args.context, config.vocab_size)
    mean_length = statistics.mean(example.inputs for step in steps for example in step)
    result: dict[str, Any] = {
        "toy": toy,
        "device": "cpu" if toy else torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "settings": {key: value for key, value in vars(args).items() if key != "json"},
        "mean_trace_tokens": mean_length,
        "ours": attempt(lambda: ours(config, args, world, dtype, steps)),
    }
    largest = result["ours"].pop("largest_micro_batch", None)
    if largest and not args.no_parts:
        alone = attempt(lambda: part_seconds(config, args, largest, world, dtype))
        result["parts_seconds"] = alone if "out_of_memory" in alone else parts_of(result["ours"], alone)
    if not args.no_plain:
        result["plain"] = attempt(lambda: measure(Plain(config, device, dtype), steps, args.warmup, device))
        rates = [result[side].get("tokens_per_second") for side in ("ours", "plain")]
        result["ratio"] = rates[0] / rates[1] if all(rates) else None
    if not toy:
        result["peak_tflops"], result["peak_from"] = peak_tflops(device)
        layers = decoder_layers(make_model(config, torch.device("meta"), "sdpa"))
        count = sum(p.numel() for p in layers.parameters())
        flops = sum(model_flops(config, count, step) for step in steps[args.warmup :])
        for side in ("ours", "plain"):
            if "step_seconds" in result.get(side, {}):
                tflops = flops / sum(result[side]["step_seconds"]) / 1e12
                result[side] |= {"tflops": tflops, "mfu": tflops / result["peak_tflops"]}
    return result


def summary(result: dict[str, Any]) -> str:
    """The figures for a reader."""
    lines = [
        f"{result['device']}, torch {result['torch']}, traces of {result['mean_trace_tokens']:.0f} tokens on average"
    ]
    if result["toy"]:
        lines.append("no GPU: a toy model on the CPU, whose figures say nothing about training on a GPU")
    for side in ("ours", "plain"):
        figures = result.get(side)
        if figures and "out_of_memory" in figures:
            lines.append(f"{side}: out of memory ({figures['out_of_memory']})")
        elif figures:
            line = f"{side}: {figures['tokens_per_second']:.0f} tokens/s"
            if "mfu" in figures:
                line += f", {figures['tflops']:.0f} TFLOP/s, MFU {figures['mfu']:.1%} of {result['peak_tflops']:.0f}"
                line += f" ({result['peak_from']}), {figures['peak_memory_gib']:.1f} GiB"
            lines.append(line)
    for name, seconds in result.get("parts_seconds", {}).items():
        lines.append(f"  {name}: {seconds:.3f} s a step" if isinstance(seconds, float) else f"  parts: {seconds}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
