"""The scores of real outputs against estimators that share nothing with the project's own.

The outputs are 8 answers of the embedded student to each of 24 sums; `outputs/make_outputs.py` made them.
"""

import asyncio
import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from statistics import mean

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data.traces import RESULTS
from kubedistill_runtime.evaluate.results import read_answers
from kubedistill_runtime.evaluate.scores import score
from kubedistill_runtime.verify.pool import VerifierPool
from kubedistill_runtime.verify.types import Item

OUTPUTS = [json.loads(line) for line in (Path(__file__).parent / "outputs/student.jsonl").open()]
SAMPLES = 8


def independent_answer(response: str) -> str | None:
    """The digits of the last box after the thinking, as a person would read them."""
    _, end, answer = response.rpartition("</think>")
    found = re.findall(r"\\boxed\{(-?\d+)\}", answer) if end else []
    return found[-1] if found else None


def independent_vote(answers: tuple[str | None, ...], gold: str) -> float:
    counts = Counter(answer for answer in answers if answer is not None)
    winners = [answer for answer in counts if counts[answer] == max(counts.values())]
    return winners.count(gold) / len(winners) if winners else 0.0


def over_all_subsets(k: int, statistic) -> float:
    """The mean over questions of the mean over all subsets of k answers."""
    return mean(
        mean(statistic(subset, row["answer"]) for subset in combinations(map(independent_answer, row["responses"]), k))
        for row in OUTPUTS
    )


@pytest.fixture(scope="module")
def means(tmp_path_factory) -> dict[str, float]:
    """Metric -> mean, through the verifier, results.parquet and the scores as a stage makes them."""
    path = tmp_path_factory.mktemp("real") / "results.parquet"
    pq.write_table(pa.Table.from_pylist(asyncio.run(judged()), schema=RESULTS), path)
    answers = read_answers(path, SAMPLES, domains={"sums": "math"})
    scored = score(answers, None, pass_at_k=[2, 4, 8], majority_at_k=[2, 3, 4, 5, 8])
    return {entry.metric: entry.mean for entry in scored.scores}


async def judged() -> list[dict]:
    """The rows of results.parquet."""
    async with VerifierPool(VerificationSpec(), 1) as pool:
        rows = []
        for row in OUTPUTS:
            items = [Item(row["id"], "math", response, gold=row["answer"]) for response in row["responses"]]
            for index, (item, verdict) in enumerate(zip(items, await pool.verify_many(items), strict=True)):
                rows.append(
                    {
                        "benchmark": "sums",
                        "question_id": row["id"],
                        "sample_index": index,
                        "correct": verdict.correct,
                        "method": verdict.method,
                        "error": verdict.error,
                        "response": item.response,
                        "response_tokens": len(item.response),
                        "truncated": False,
                        "seed": index,
                    }
                )
    return rows


def test_the_outputs_are_neither_all_right_nor_all_wrong_nor_all_different() -> None:
    assert len(OUTPUTS) == 24
    assert {len(row["responses"]) for row in OUTPUTS} == {SAMPLES}
    shares = [Counter(map(independent_answer, row["responses"]))[row["answer"]] / SAMPLES for row in OUTPUTS]
    assert sum(0 < share < 1 for share in shares) >= 10
    tied = sum(
        0 < independent_vote(tuple(map(independent_answer, row["responses"])), row["answer"]) < 1 for row in OUTPUTS
    )
    assert tied >= 1


def test_avg_at_k(means) -> None:
    assert means["avg@8"] == pytest.approx(over_all_subsets(1, lambda one, gold: float(one[0] == gold)))


@pytest.mark.parametrize("k", [2, 4, 8])
def test_pass_at_k(means, k) -> None:
    assert means[f"pass@{k}"] == pytest.approx(over_all_subsets(k, lambda subset, gold: float(gold in subset)))


@pytest.mark.parametrize("k", [2, 3, 4, 5, 8])
def test_majority_at_k(means, k) -> None:
    assert means[f"majority@{k}"] == pytest.approx(over_all_subsets(k, independent_vote))
