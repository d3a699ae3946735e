"""Builds the tiny models and their questions: ``python -m kubedistill_runtime.tiny --out DIR [--only NAME]``."""

import argparse
import json
from pathlib import Path

import torch

from .pretrain import Progress, pretrain, save
from .recipe import RECIPES
from .task import Question, benchmark_questions, train_questions
from .tokenizer import build_tokenizer


def write_questions(path: Path, questions: list[Question]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(question.row()) + "\n" for question in questions))
    path.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kubedistill_runtime.tiny", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for models/ and questions/")
    parser.add_argument("--only", choices=RECIPES, help="build this model alone")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; one per model built at a time is best")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    write_questions(arguments.out / "questions/train.jsonl", train_questions())
    write_questions(arguments.out / "questions/benchmark.jsonl", benchmark_questions())
    tokenizer = build_tokenizer()
    for name in [arguments.only] if arguments.only else RECIPES:

        def report(progress: Progress, name: str = name) -> None:
            checked = "" if progress.accuracy is None else f" accuracy {progress.accuracy:.3f}"
            step = f"step {progress.step}/{progress.steps} loss {progress.loss:.4f}"
            print(f"{name} {step}{checked} eta {progress.seconds_left:.0f}s", flush=True)

        save(pretrain(RECIPES[name], tokenizer, report), tokenizer, arguments.out / "models" / name)


if __name__ == "__main__":
    main()
