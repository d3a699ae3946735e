"""A row of each known benchmark, in the shape that its data set documents, becomes a question with the right gold."""

from collections.abc import Callable
from typing import Any

import pytest

from kubedistill_api.benchmarks import PRESETS
from kubedistill_api.data import Benchmark
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data.questions import Question, load_source
from kubedistill_runtime.verify.choice import LETTERS

Write = Callable[..., str]
AIME = {"id": 0, "problem": "Find $x$.", "solution": "It is 33.", "answer": "033", "url": "", "year": "2024"}
GPQA = {
    "Question": "Which one?",
    "Correct Answer": "the right one\n",
    "Incorrect Answer 1": "one",
    "Incorrect Answer 2": "two",
    "Incorrect Answer 3": "three",
    "Explanation": "because",
}
MMLU = {"question": "Which one?", "subject": "law", "choices": ["a", "the right one", "b", "c"], "answer": 1}
MMLU_PRO = {
    "question_id": 70,
    "question": "Which one?",
    "options": ["a", "b", "c", "d", "e", "f", "g", "h", "i", "the right one"],
    "answer": "J",
    "answer_index": 9,
    "cot_content": "",
    "category": "business",
}
LIVECODEBENCH = {
    "question_title": "Double",
    "question_content": "Print twice the number.",
    "platform": "atcoder",
    "question_id": "abc387_a",
    "contest_date": "2025-01-04T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": '[{"input": "2\\n", "output": "4\\n", "testtype": "stdin"}]',
    "private_test_cases": '[{"input": "3\\n", "output": "6\\n", "testtype": "stdin"}]',
    "metadata": "{}",
}
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "aime24": (AIME, "033"),
    "aime25": (AIME, "033"),
    "math500": ({"problem": "Find $x$.", "answer": r"\frac{1}{2}", "level": 2, "unique_id": "a"}, r"\frac{1}{2}"),
    "gpqa-diamond": (GPQA, "the right one"),
    "gsm8k": ({"question": "How many?", "answer": "48+24 = <<48+24=72>>72.\n#### 72"}, "72"),
    "mmlu": (MMLU, "the right one"),
    "mmlu-pro": (MMLU_PRO, "the right one"),
    "livecodebench": (LIVECODEBENCH, '{"inputs":["2\\n","3\\n"],"outputs":["4\\n","6\\n"],"fn_name":null}'),
}


def test_every_preset_has_a_row() -> None:
    assert set(ROWS) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_its_row_is_a_question_with_its_gold(jsonl: Write, name: str) -> None:
    row, gold = ROWS[name]
    benchmark = Benchmark.model_validate({"preset": name, "uri": jsonl([row])})
    (question,) = load_source(benchmark, 0, "spec.evaluation.benchmarks[0]", VerificationSpec())
    assert isinstance(question, Question)
    assert question.prompt.startswith(question.question)
    assert ("```python" if benchmark.domain == "code" else "\\boxed{}") in question.prompt
    if benchmark.domain == "choice":
        assert question.gold in LETTERS
        assert f"\n{question.gold}) {gold}" in question.prompt
    else:
        assert (question.tests if benchmark.domain == "code" else question.gold) == gold
