"""Makes student.jsonl: real answers of the embedded student to sums that it was not trained on.

python tests/unit/evaluate/outputs/make_outputs.py
"""

import json
from itertools import groupby
from pathlib import Path

from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from kubedistill_runtime.tiny import embedded_path
from kubedistill_runtime.tiny.accuracy import sample_traces
from kubedistill_runtime.tiny.task import benchmark_questions

OUTPUTS = Path(__file__).with_name("student.jsonl")
PER_LEVEL, SAMPLES = 4, 8


def main() -> None:
    path = embedded_path("models/student")
    by_level = sorted(benchmark_questions(), key=lambda question: len(question.terms))
    levels = groupby(by_level, key=lambda question: len(question.terms))
    questions = [question for _, level in levels for question in list(level)[:PER_LEVEL]]
    traces = sample_traces(
        AutoModelForCausalLM.from_pretrained(path, dtype="float32"),
        PreTrainedTokenizerFast.from_pretrained(path),
        questions,
        SAMPLES,
    )
    rows = [
        {"id": f"sum-{number}", "question": question.text, "answer": str(question.answer), "responses": texts}
        for number, (question, texts) in enumerate(traces.items())
    ]
    OUTPUTS.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
