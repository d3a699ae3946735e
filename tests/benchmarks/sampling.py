"""Sampling with verification and durable records against bare `vllm.LLM.generate`, and what stopping early saves.

    python -m tests.benchmarks.sampling --json

Both sides draw the same samples (same prompts, same sampling parameters, same seeds, no detokenising in the engine)
with engines of the same settings, in turn, in one run; starting the engines is left out. Ours goes all the way: one
request per sample through a Ray actor, decoding, verification, records that are synced to the disk, the final Parquet
file. The bare engine returns its list. `ratio` is our best round by the bare engine's best, in tokens per second: what
neighbours on the machine take only ever slows a round. `median_ratio` is that of the rounds. Without seeds the bare
engine is measured as well: what seeds cost is vLLM's, not ours.

`stop` compares the tokens spent until every question has so many verified responses with those of all samples.
"""

import argparse
import asyncio
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

import psutil

from kubedistill_api.data import EngineSpec, TeacherSampling
from kubedistill_api.runtime import RoleSpec
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data.traces import TRACES, TraceStore
from kubedistill_runtime.sampling.draw import Drawing, Model, Question, Tally, seed_of
from kubedistill_runtime.sampling.serving import Served, Wanted, cpu_workers, serving
from kubedistill_runtime.stages.sample import trace_record
from kubedistill_runtime.tiny import embedded_path
from kubedistill_runtime.verify.pool import VerifierPool

MODEL = "models/careless-teacher"
MAX_TOKENS = 128

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@dataclass(frozen=True)
class Round:
    """Tokens per second of one round, each side in turn."""

    ours: float
    bare: float
    bare_without_seeds: float
    engine_cpu: float
    """CPU seconds of the bare engine by those of ours, which neighbours on the machine disturb less."""


def questions(count: int) -> list[Question]:
    rows = [json.loads(line) for line in embedded_path("questions/train.jsonl").read_text().splitlines()]
    found = []
    for number in range(count):
        row = rows[number % len(rows)]
        name = f"q{number}"
        found.append(Question((name,), name, row["question"], "math", row["answer"], None))
    return found


async def draw(served: Served, asked: Sequence[Question], sampling: TeacherSampling) -> Tally:
    """Everything that the sample stage does once its engine is ready."""
    with tempfile.TemporaryDirectory() as folder, TraceStore(Path(folder) / "parts", TRACES) as store:
        async with VerifierPool(VerificationSpec(), cpu_workers(RoleSpec())) as verifier:
            drawing = Drawing(
                Model(served.pool, served.prompter, served.prompts, served.max_model_len),
                asked,
                sampling,
                verify=verifier.verify,
                store=store,
                record=lambda drawn: trace_record(drawn, "teacher"),
                progress=lambda *_, **__: None,
                stop_after_verified=sampling.stop_after_verified,
            )
            started = time.perf_counter()
            tally = await drawing.run()
            store.compact(Path(folder) / "traces.parquet", [question.key for question in asked])
            tally.seconds = time.perf_counter() - started
            return tally


class Bare:
    """`vllm.LLM` in a process of its own, asked over a pipe."""

    def __init__(self, max_model_len: int, engine: EngineSpec, prompts: list[list[int]]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.sampling", "--bare"],
            env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        settings = {"max_model_len": max_model_len, "max_num_seqs": engine.max_num_seqs}
        self.ask({"settings": settings, "dtype": engine.dtype, "prompts": prompts})

    def ask(self, message: dict[str, Any]) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(message), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)  # type: ignore[no-any-return]
        raise RuntimeError("the bare engine died")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve_bare() -> int:
    """The other end of `Bare`."""
    os.environ.update({"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"})
    from vllm import LLM, SamplingParams, TokensPrompt

    from kubedistill_runtime.engines.vllm_engine import EngineConfig, cpu_arguments

    first = json.loads(sys.stdin.readline())
    settings = {name: value for name, value in first["settings"].items() if value is not None}
    config = EngineConfig(
        str(embedded_path(MODEL)), 0, settings["max_model_len"], {"dtype": first["dtype"], **settings}
    )
    llm = LLM(config.model, **settings, **cpu_arguments(config))
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in first["prompts"]]
    print("{}", flush=True)
    for line in sys.stdin:
        seeds = json.loads(line)["seeds"]
        samples = len(seeds) // len(prompts)
        parameters = [
            SamplingParams(temperature=1.0, max_tokens=MAX_TOKENS, seed=seed, detokenize=False) for seed in seeds
        ]
        asked = [prompt for prompt in prompts for _ in range(samples)]
        started, cpu = time.perf_counter(), time.process_time()
        outputs = llm.generate(asked, parameters, use_tqdm=False)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print(json.dumps({"tokens": tokens, "seconds": seconds, "cpu": cpu}), flush=True)
    return 0


async def measure(served: Served, bare: Bare, asked: list[Question], samples: int, rounds: int) -> list[Round]:
    fixed = TeacherSampling(samples=samples, temperature=1.0, top_p=1.0, max_tokens=MAX_TOKENS)
    seeds = [seed_of(fixed.seed, question.question_id, index) for question in asked for index in range(samples)]
    engine = psutil.Process(served.pool.pids()[0])
    measured = []
    for number in range(rounds + 1):
        before = engine.cpu_times()
        ours = await draw(served, asked, fixed)
        after = engine.cpu_times()
        cpu = after.user + after.system - before.user - before.system
        seeded = await asyncio.to_thread(bare.ask, {"seeds": seeds})
        unseeded = await asyncio.to_thread(bare.ask, {"seeds": [None] * len(seeds)})
        assert ours.tokens == seeded["tokens"], "the same samples have the same tokens"
        one = Round(
            ours=round(ours.tokens / ours.seconds, 1),
            bare=round(seeded["tokens"] / seeded["seconds"], 1),
            bare_without_seeds=round(unseeded["tokens"] / unseeded["seconds"], 1),
            engine_cpu=round(seeded["cpu"] / cpu, 3),
        )
        print(f"{'warm-up' if not number else f'round {number}'}: {asdict(one)}", file=sys.stderr, flush=True)
        if number:
            measured.append(one)
    return measured


async def run(args: argparse.Namespace, served: Served, bare: Bare, asked: list[Question]) -> dict[str, Any]:
    await served.pool.start()
    try:
        rounds = await measure(served, bare, asked, args.samples, args.rounds)
        everything = TeacherSampling(samples=args.samples, temperature=1.0, top_p=1.0, max_tokens=MAX_TOKENS)
        full = await draw(served, asked, everything)
        early = await draw(served, asked, everything.model_copy(update={"stop_after_verified": args.stop}))
    finally:
        await served.pool.close()
    return {
        "benchmark": "sampling",
        "ratio": round(max(one.ours for one in rounds) / max(one.bare for one in rounds), 3),
        "median_ratio": round(statistics.median(one.ours / one.bare for one in rounds), 3),
        "engine_cpu": statistics.median(one.engine_cpu for one in rounds),
        "seed_cost": round(1 - max(one.bare for one in rounds) / max(one.bare_without_seeds for one in rounds), 3),
        "rounds": [asdict(one) for one in rounds],
        "requests": len(asked) * args.samples,
        "stop": {
            "after_verified": args.stop,
            "samples": args.samples,
            "tokens": early.tokens,
            "tokens_of_all_samples": full.tokens,
            "share": round(early.tokens / full.tokens, 3),
            "traces": early.drawn,
            "verified": early.verified,
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the rounds as they come and, with --json, one line of JSON."""
    parser = argparse.ArgumentParser(description="our sampler against bare vLLM")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--samples", type=int, default=8, help="per question")
    parser.add_argument("--stop", type=int, default=2, help="verified responses to stop after")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.bare:
        return serve_bare()
    asked = questions(args.questions)
    engine = EngineSpec(dtype=args.dtype, max_num_seqs=args.max_num_seqs)
    wanted = [Wanted([question.prompt for question in asked], MAX_TOKENS)]
    with serving(embedded_path(MODEL), engine, RoleSpec(), wanted) as served:
        ids = [list(served.prompts[question.prompt].token_ids) for question in asked]
        bare = Bare(served.max_model_len, engine, ids)
        try:
            result = asyncio.run(run(args, served, bare, asked))
        finally:
            bare.close()
    if args.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
