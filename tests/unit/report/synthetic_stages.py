"""Folders of finished stages as a real run leaves them, made in a second: real plan and digests, invented content."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kubedistill_api.graph import Graph, Node, Resource
from kubedistill_api.planning import plan
from kubedistill_api.runtime import RuntimeSpec
from kubedistill_api.stage import RESULT_FILE, StageResult, StageSpec
from kubedistill_api.status import Artifact, Usage
from kubedistill_runtime.data.storage import digest, size
from kubedistill_runtime.evaluate.results import answers_of
from kubedistill_runtime.evaluate.scores import score
from kubedistill_runtime.stages import compare, decide
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.evaluate import of_student
from kubedistill_runtime.train.distribution import Distribution

START = datetime(2025, 3, 4, 9, 30, tzinfo=UTC)
SECONDS = {"prepare": 3.1, "sample": 2914.0, "baseline": 1712.0, "curate": 41.5, "train": 5230.0, "evaluate": 1604.0}
GPUS = {"sample": 8, "baseline": 8, "train": 8, "evaluate": 8}
MODELS = {"careless": 0.75, "terse": 0.94, "": 0.78}
"""How often a teacher is right, by candidate."""
LIFT = {"careless": 0.55, "terse": -0.25, "": 0.5}
"""Share of what the base gets wrong that the student gets right; negative: it forgets so much of the rest."""

Text = Callable[[int, bool], str]
"""Response text for a length in tokens and a verdict."""


@dataclass
class Shape:
    """How much there is of everything."""

    questions: int = 60
    samples: int = 8
    benchmark_questions: int = 40
    benchmark_samples: int = 8
    steps: int = 200
    length: float = 400.0
    """Median tokens of a trace."""
    text: Text = field(default=lambda tokens, right: reasoning(tokens, right))
    question: Callable[[int], str] = field(default=lambda row: arithmetic(row))


def arithmetic(row: int) -> str:
    rng = np.random.default_rng(row)
    signs = rng.choice(["+", "-"], 6)
    return "Compute " + "".join(f"{n}{s}" for n, s in zip(rng.integers(1, 90, 6), signs, strict=True)) + f"{row}."


def reasoning(tokens: int, right: bool) -> str:
    """Lines of a plausible trace; about four characters a token."""
    rng = np.random.default_rng(tokens)
    lines, total = [], 0
    while sum(map(len, lines)) < 4 * tokens - 60:
        step = int(rng.integers(2, 99))
        lines.append(f"So far I have {total}, and adding {step} gives {total} + {step} = {total + step}.")
        total += step
        if rng.random() < 0.12:
            lines.append("Wait, let me check that again before I go on.")
    answer = total if right else total + 1
    return "<think>\n" + "\n".join(lines) + f"\n</think>\n\nThe answer is \\boxed{{{answer}}}."


def measured(rng: np.random.Generator) -> dict[str, Any]:
    """What a training says of its corpus."""
    found = {}
    for name, scale in (("nll", 0.6), ("entropy", 0.5)):
        spread = Distribution()
        spread.add(rng.exponential(scale, 4000) * (rng.random(4000) < 0.6))
        found[name] = spread.to_json()
    layers = rng.normal(size=(4, 2))
    distance = float(np.linalg.norm(layers.mean(0)))
    shift = {"distance": distance, "layers": layers.tolist(), "prompts": 100, "tokens": 128}
    return {"traces": 190, "tokens": 4000, "meanTokens": 4000 / 190, **found, "shift": shift}


def build(root: Path, resource: Resource, shape: Shape | None = None, *, only: set[str] | None = None) -> StageContext:
    """Leaves every stage before the report below `root`, and gives the report's context.

    `only` keeps the stages of these names, as if the others were not part of the plan.
    """
    return _Builder(root, plan(resource), shape or Shape(), only).build()


class _Builder:
    def __init__(self, root: Path, graph: Graph, shape: Shape, only: set[str] | None) -> None:
        self.root, self.graph, self.shape, self.only = root, graph, shape, only
        self.results: dict[str, StageResult] = {}
        self.clock = START
        self.rates = np.random.default_rng(5).beta(0.9, 1.1, shape.questions)
        self.benchmark_rates = np.random.default_rng(6).beta(0.8, 1.8, shape.benchmark_questions)

    def build(self) -> StageContext:
        for node in self.graph.nodes:
            if node.kind != "report" and (self.only is None or node.name in self.only):
                self._stage(node)
        spec = self.graph.stage_spec("report", str(self.root), RuntimeSpec())
        return StageContext(
            spec.model_copy(update={"inputs": {r: uri for r, uri in spec.inputs.items() if r in self.results}})
        )

    def _folder(self, name: str) -> Path:
        return self.root / "stages" / self.graph[name].folder

    def _stage(self, node: Node) -> None:
        folder = self._folder(node.name)
        folder.mkdir(parents=True)
        spec = self.graph.stage_spec(node.name, str(self.root), RuntimeSpec())
        (folder / "spec.json").write_text(spec.model_dump_json(by_alias=True))
        if node.kind in ("decide", "compare"):
            self._compared(node, spec, folder)
            return
        outputs, metrics, usage = getattr(self, f"_{node.kind}")(node, folder)
        seconds = SECONDS[node.kind]
        started, self.clock = self.clock, self.clock + timedelta(seconds=seconds)
        result = StageResult(
            stage=node.name,
            kind=node.kind,
            digest=node.digest,
            inputs={role: self.results[need].outputs for role, need in node.needs.items() if need in self.results},
            outputs={
                name: Artifact(
                    uri=str(path.relative_to(folder)),
                    digest=digest(path),
                    bytes=size(path),
                    rows=pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None,
                )
                for name, path in outputs.items()
            },
            metrics=metrics,
            usage=usage.model_copy(
                update={"gpu_seconds": GPUS.get(node.kind, 0) * seconds, "cpu_seconds": seconds * 1.6}
            ),
            versions={"kubedistill": "0.1.0", "vllm": "0.32.0", "torch": "2.13.0", "transformers": "5.19.0"},
            started=started,
            finished=self.clock,
        )
        (folder / RESULT_FILE).write_text(result.model_dump_json(by_alias=True))
        self.results[node.name] = result

    def _prepare(self, node: Node, folder: Path) -> tuple[dict[str, Path], dict[str, Any], Usage]:
        questions = [self._question(row) for row in range(self.shape.questions)]
        benchmarks = [
            {**self._question(100_000 + row), "benchmark": benchmark.name}
            for benchmark in node.params.benchmarks
            for row in range(self.shape.benchmark_questions)
        ]
        drops = folder / "drops.jsonl"
        drops.write_text(
            "".join(
                json.dumps({"source": 0, "row": row, "question_id": f"d{row}", "reason": reason, "detail": detail})
                + "\n"
                for row, (reason, detail) in enumerate(
                    [("duplicate", "the same text as row 3")] * 4 + [("contaminated", "overlaps with math-tiny")] * 2
                )
            )
        )
        outputs = {
            "questions": _write(folder / "questions.parquet", questions),
            "benchmarks": _write(folder / "benchmarks.parquet", benchmarks),
            "drops": drops,
        }
        return outputs, {"questions": len(questions), "duplicate": 4, "contaminated": 2}, Usage()

    def _question(self, row: int) -> dict[str, Any]:
        text = self.shape.question(row)
        return {
            "question_id": hashlib.sha256(f"{row}{text}".encode()).hexdigest()[:16],
            "source": 0,
            "row": row,
            "domain": "math",
            "question": text,
            "prompt": text,
            "gold": str(row * 7),
            "tests": None,
        }

    def _sample(self, node: Node, folder: Path) -> tuple[dict[str, Path], dict[str, Any], Usage]:
        name = node.name.removeprefix("sample").removeprefix("-")
        rng = np.random.default_rng(len(name))
        rows = []
        for row, rate in enumerate(self.rates):
            question = self._question(row)["question_id"]
            chance = MODELS[name.partition("-s")[0]] + 0.2 * (rate - 0.5)
            for index in range(node.params.sampling.samples):
                limit = int(self.shape.length * 6)
                tokens = min(limit, int(self.shape.length * math.exp(rng.normal(0.3 - 0.6 * rate, 0.55))))
                cut = tokens == limit
                right = bool(rng.random() < chance) and not cut
                rows.append(
                    {
                        "question_id": question,
                        "sample_index": index,
                        "domain": "math",
                        "prompt_token_ids": [1, 2, 3],
                        "response_token_ids": [7] * tokens,
                        "prompt_tokens": 3,
                        "response_tokens": tokens,
                        "response": self.shape.text(tokens, right),
                        "finish_reason": "length" if cut else "stop",
                        "correct": right,
                        "method": "rules",
                        "error": None,
                        "verify_seconds": 0.01,
                        "latency_seconds": tokens / 60,
                        "seed": row * 1000 + index,
                        "surplus": False,
                        "teacher": name or "teacher",
                    }
                )
        tokens = sum(len(row["response_token_ids"]) for row in rows)
        path = _write(folder / "traces.parquet", rows)
        return {"traces": path}, {"traces": len(rows)}, Usage(prompt_tokens=90 * len(rows), completion_tokens=tokens)

    def _baseline(self, node: Node, folder: Path) -> tuple[dict[str, Path], dict[str, Any], Usage]:
        outputs, drawn = {}, 0
        if node.params.pass_rate:
            samples = node.params.pass_rate.samples
            right = np.random.default_rng(8).binomial(samples, self.rates)
            rows = [
                {
                    "question_id": self._question(row)["question_id"],
                    "samples": samples,
                    "correct": int(n),
                    "pass_rate": n / samples,
                }
                for row, n in enumerate(right)
            ]
            outputs["pass_rates"] = _write(folder / "pass_rates.parquet", rows)
        if node.params.evaluation:
            rows = self._answers(self.benchmark_rates, node.params.evaluation.samples, 0.7, 11)
            outputs["results"] = _write(folder / "results.parquet", rows)
            drawn = sum(row["response_tokens"] for row in rows)
        return outputs, {}, Usage(completion_tokens=drawn)

    def _answers(self, rates: np.ndarray, samples: int, length: float, seed: int) -> list[dict[str, Any]]:
        rng = np.random.default_rng(seed)
        prepare = pq.read_table(self._folder("prepare") / "benchmarks.parquet").to_pylist()
        rows = []
        for question in prepare:
            rate = rates[question["row"] - 100_000]
            for index in range(samples):
                tokens = max(5, int(self.shape.length * length * math.exp(rng.normal(0, 0.4))))
                right, cut = bool(rng.random() < rate), bool(rng.random() < 0.02)
                rows.append(
                    {
                        "benchmark": question["benchmark"],
                        "question_id": question["question_id"],
                        "sample_index": index,
                        "correct": right and not cut,
                        "method": "rules",
                        "error": None,
                        "response": self.shape.text(tokens, right),
                        "response_tokens": tokens,
                        "truncated": cut,
                        "seed": index,
                    }
                )
        return rows

    def _curate(self, node: Node, folder: Path) -> tuple[dict[str, Path], dict[str, Any], Usage]:
        sample = pq.read_table(self._folder(node.needs["sample"]) / "traces.parquet")
        keep = node.params.curation.diversity.trajectories
        most = node.params.curation.difficulty.max_pass_rate
        rates = {}
        if "baseline" in node.needs and (self._folder("baseline") / "pass_rates.parquet").exists():
            table = pq.read_table(self._folder("baseline") / "pass_rates.parquet").to_pylist()
            rates = {row["question_id"]: row["pass_rate"] for row in table}
        trace_fates, question_fates, kept_keys = [], [], set()
        columns = ["question_id", "sample_index", "finish_reason", "correct", "response_token_ids"]
        by_question: dict[str, list[dict[str, Any]]] = {}
        for row in sample.select(columns).to_pylist():
            by_question.setdefault(row["question_id"], []).append(row)
        for question, traces in by_question.items():
            easy = most is not None and rates.get(question, 0) > most
            left = keep
            for trace in traces:
                tokens = len(trace["response_token_ids"])
                if trace["finish_reason"] == "length":
                    fate = ("quality", "truncated", f"cut off by the sampler after {tokens} tokens")
                elif trace["sample_index"] == 5 and tokens % 3 == 0:
                    fate = ("quality", "think_tags", "has <think> <think> </think> instead of one <think> </think>")
                elif not trace["correct"]:
                    fate = ("correctness", "incorrect", "wrong answer by rules")
                elif easy:
                    fate = ("difficulty", "too_easy", f"the student solves {rates[question]:.3f} of its tries")
                elif left == 0:
                    fate = ("diversity", "not_farthest", f"not among the {keep} farthest of {len(traces)}")
                else:
                    left -= 1
                    fate = ("kept", "farthest", f"among the {keep} farthest of {len(traces)}")
                    kept_keys.add((question, trace["sample_index"]))
                trace_fates.append(
                    {
                        "question_id": question,
                        "sample_index": trace["sample_index"],
                        "kept": fate[0] == "kept",
                        "stage": fate[0],
                        "reason": fate[1],
                        "text": fate[2],
                    }
                )
            any_right = any(trace["correct"] for trace in traces)
            fate = (
                ("correctness", "none_correct", "none of its well-formed traces is correct")
                if not any_right
                else ("difficulty", "too_easy", f"the student solves {rates.get(question, 0):.3f} of its tries")
                if easy
                else ("kept", "kept", f"with {keep - left} traces")
            )
            question_fates.append(
                {
                    "question_id": question,
                    "pass_rate": rates.get(question),
                    "kept": fate[0] == "kept",
                    "stage": fate[0],
                    "reason": fate[1],
                    "text": fate[2],
                }
            )
        mask = [
            key in kept_keys
            for key in zip(sample["question_id"].to_pylist(), sample["sample_index"].to_pylist(), strict=True)
        ]
        corpus = folder / "corpus.parquet"
        pq.write_table(sample.filter(pa.array(mask)), corpus)
        outputs = {
            "corpus": corpus,
            "trace_fates": _write(folder / "trace_fates.parquet", trace_fates),
            "question_fates": _write(folder / "question_fates.parquet", question_fates),
        }
        return outputs, _funnel(len(by_question), trace_fates), Usage()

    def _train(self, node: Node, folder: Path) -> tuple[dict[str, Path], dict[str, Any], Usage]:
        rng = np.random.default_rng(list(node.name.encode()))
        steps = self.shape.steps
        rows = [
            {
                "step": step + 1,
                "epoch": (step + 1) / (steps / 10),
                "loss": 0.22 + 0.75 * math.exp(-5 * step / steps) + float(rng.normal(0, 0.02)),
                "learning_rate": 1e-5
                * min((step + 1) / (steps / 10), 0.5 * (1 + math.cos(math.pi * max(0, step / steps - 0.1) / 0.9))),
                "grad_norm": 1.2 * math.exp(-step / steps) + float(rng.random() * 0.1),
                "tokens": 48 * 420,
                "valid_tokens": 48 * 400,
                "tokens_per_second": 21_000.0,
                "seconds": 48 * 420 / 21_000,
            }
            for step in range(steps)
        ]
        metrics = folder / "metrics.jsonl"
        metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        model = folder / "model"
        model.mkdir()
        (model / "model.safetensors").write_bytes(b"weights")
        covariates = folder / "covariates.json"
        covariates.write_text(json.dumps(measured(rng)))
        figures = {"steps": steps, "last_loss": rows[-1]["loss"], "examples": 190}
        return (
            {"model": model, "metrics": metrics, "covariates": covariates},
            figures,
            Usage(training_tokens=48 * 420 * steps),
        )

    def _evaluate(self, node: Node, folder: Path) -> tuple[dict[str, Path], dict[str, Any], Usage]:
        if not node.params.students:
            return self._scored(node, folder, node.name.removeprefix("evaluate").removeprefix("-"))
        outputs, tokens = {}, 0
        for student in node.params.students:
            (folder / student).mkdir()
            made, _, usage = self._scored(node, folder / student, student)
            outputs |= {of_student(name, student): path for name, path in made.items()}
            tokens += usage.completion_tokens
        return outputs, {}, Usage(completion_tokens=tokens)

    def _scored(self, node: Node, folder: Path, name: str) -> tuple[dict[str, Path], dict[str, Any], Usage]:
        lift = LIFT.get(name, 0.1 + len(name) % 5 / 10)
        rates = self.benchmark_rates
        rates = rates + lift * (1 - rates) if lift > 0 else rates * (1 + lift)
        samples = node.params.evaluation.samples
        results = _write(folder / "results.parquet", self._answers(rates, samples, 1.1, 12 + len(name)))
        base = None
        if "baseline" in self.results:
            base = answers_of(pq.read_table(self._folder("baseline") / "results.parquet"), samples)
        scored = score(answers_of(pq.read_table(results), samples), base, pass_at_k=node.params.pass_at)
        scores = folder / "scores.json"
        scores.write_text(json.dumps(scored.to_json()))
        tokens = sum(pq.read_table(results)["response_tokens"].to_pylist())
        return {"results": results, "scores": scores}, scored.metrics(), Usage(completion_tokens=tokens)

    def _compared(self, node: Node, spec: StageSpec, folder: Path) -> None:
        """The real stage, at a time of its own."""
        started, self.clock = self.clock, self.clock + timedelta(seconds=1)
        result = {"decide": decide, "compare": compare}[node.kind].run(StageContext(spec), node.params)
        result = result.model_copy(
            update={"started": started, "finished": self.clock, "usage": Usage(), "versions": {}}
        )
        (folder / RESULT_FILE).write_text(result.model_dump_json(by_alias=True))
        self.results[node.name] = result


def _funnel(questions: int, fates: list[dict[str, Any]]) -> dict[str, int]:
    order = ["quality", "correctness", "difficulty", "diversity", "kept"]
    figures = {"questions": questions}
    for at, name in enumerate(["sampled", "well_formed", "correct", "hard", "kept"]):
        through = [fate for fate in fates if order.index(fate["stage"]) >= at]
        figures |= {name: len(through), f"questions_{name}": len({fate["question_id"] for fate in through})}
    return figures


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    schema = None
    if rows and "error" in rows[0]:
        found = pa.Table.from_pylist(rows[:1]).schema
        schema = found.set(found.get_field_index("error"), pa.field("error", pa.string()))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path
