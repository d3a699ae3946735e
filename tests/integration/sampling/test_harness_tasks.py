"""Tasks of the lm-evaluation-harness, with the real harness and a model that answers by rote."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kubedistill_api.data import Benchmark, DecontaminationSpec, QuestionSource
from kubedistill_api.harness import HARNESS, HarnessTask
from kubedistill_api.stage import PrepareParams, StageSpec
from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.data.traces import RESULTS, TraceStore
from kubedistill_runtime.engines.base import Completion, EngineStats, Request
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.harness.run import Harness
from kubedistill_runtime.harness.tasks import load_tasks, verdicts
from kubedistill_runtime.sampling.benchmarks import RESULTS_KEY
from kubedistill_runtime.sampling.serving import Prompter, Served
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.prepare import run as prepare
from kubedistill_runtime.tiny import embedded_path
from tests.integration.sampling.harness_tasks import entry, sums, write_tasks

COUNT = 6
ROWS = sums(COUNT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"), COUNT)


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return Prompter(embedded_path("models/student"), trust_remote_code=False)


class ByRote:
    """An engine with room for two requests. It knows the first `knows` answers, and finds right options likelier.

    It dies when it is asked for answers once more than `lives` times.
    """

    def __init__(self, prompter: Prompter, knows: int = COUNT, cut: bool = False, lives: int = 1000) -> None:
        self.stats = EngineStats()
        self.asked: list[Request] = []
        self._tokenizer = prompter.tokenizer
        self._knows, self._cut, self._lives = knows, cut, lives
        self._waiting: list[Request] = []

    def room(self) -> int:
        return 2 - len(self._waiting)

    def submit(self, requests: Sequence[Request]) -> None:
        assert len(requests) <= self.room()
        self.asked += requests
        self._waiting += requests

    async def poll(self) -> list[Completion]:
        await asyncio.sleep(0)
        if not self._lives:
            raise TryAgain("the engine died")
        self._lives -= 1
        done, self._waiting = self._waiting, []
        return [self._completion(request) for request in done]

    def _completion(self, request: Request) -> Completion:
        text = self._tokenizer.decode(request.prompt_token_ids)
        number = max(range(COUNT), key=lambda at: text.rfind(ROWS[at]["question"]))
        right = ROWS[number]["answer"] if number < self._knows else "-1"
        if request.score_from is not None:
            option = self._tokenizer.decode(request.prompt_token_ids[request.score_from :]).strip()
            tokens = len(request.prompt_token_ids) - request.score_from
            return Completion(request.id, "length", logprobs=(-0.5 if option == right else -2.0,) * tokens)
        said = f"<think>\n\n\\boxed{{7}}\n</think>\n\\boxed{{{right}}}" if not self._cut else "<think>\n\\boxed{7}"
        ids = self._tokenizer.encode(said, add_special_tokens=False)
        if not self._cut:
            ids.append(self._tokenizer.eos_token_id)
        return Completion(request.id, "length" if self._cut else "stop", tuple(ids), completion_tokens=len(ids))


def answers(
    tmp_path: Path, prompter: Prompter, engine: ByRote, *benchmarks: Benchmark, order: Sequence[tuple[str, str]] = ()
) -> list[dict[str, Any]]:
    """Rows of results.parquet."""
    served = Served(engine, prompter, {}, 256)
    harness = Harness(benchmarks)
    with TraceStore(tmp_path / "parts", RESULTS, RESULTS_KEY) as store:
        asyncio.run(harness.answer(served, 0, store, lambda *_, **__: None, tmp_path / "asked"))
        found = order or [
            (one.name, f"{one.harness.task}/{n}") for one in benchmarks for n in range(COUNT) if one.harness
        ]
        store.compact(tmp_path / "results.parquet", found)
    rows: list[dict[str, Any]] = pq.read_table(tmp_path / "results.parquet").to_pylist()
    return rows


def test_text_is_drawn_in_the_chat_template_and_judged_after_the_thoughts(
    tmp_path: Path, folder: Path, prompter: Prompter
) -> None:
    engine = ByRote(prompter, knows=4)
    rows = answers(tmp_path, prompter, engine, entry(folder, "tiny_sums", chatTemplate=True))
    assert [row["question_id"] for row in rows] == [f"tiny_sums/{n}" for n in range(COUNT)]
    # Neither the number in the thoughts nor the empty line there, which ends an answer, is taken for the answer.
    assert [row["correct"] for row in rows] == [True] * 4 + [False] * 2
    assert {row["method"] for row in rows} == {"harness:exact_match,boxed"}
    assert rows[0]["response"].endswith(f"\\boxed{{{ROWS[0]['answer']}}}")
    assert rows[0]["response"].startswith("<think>")
    assert all(row["response_tokens"] > 10 and not row["truncated"] for row in rows)
    assert engine.asked[0].prompt_token_ids == prompter.prompt(ROWS[0]["question"]).token_ids
    assert (engine.asked[0].draw.temperature, engine.asked[0].draw.max_tokens, engine.asked[0].draw.stop) == (
        0.0,
        96,
        (),
    )
    assert len({request.draw.seed for request in engine.asked}) == COUNT


def test_plain_text_stops_where_the_task_says_and_has_its_own_length(
    tmp_path: Path, folder: Path, prompter: Prompter
) -> None:
    engine = ByRote(prompter)
    answers(tmp_path, prompter, engine, entry(folder, "tiny_sums", maxTokens=17))
    assert engine.asked[0].prompt == ROWS[0]["question"]
    assert (engine.asked[0].draw.max_tokens, engine.asked[0].draw.stop) == (17, ("\n\n",))


def test_a_response_that_is_cut_in_its_thoughts_is_wrong_and_counted_as_cut(
    tmp_path: Path, folder: Path, prompter: Prompter
) -> None:
    rows = answers(tmp_path, prompter, ByRote(prompter, cut=True), entry(folder, "tiny_sums", chatTemplate=True))
    assert all(row["truncated"] and not row["correct"] for row in rows)


def test_options_are_scored_by_their_own_tokens(tmp_path: Path, folder: Path, prompter: Prompter) -> None:
    engine = ByRote(prompter, knows=COUNT - 1)
    rows = answers(tmp_path, prompter, engine, entry(folder, "tiny_options"))
    assert [row["response"] for row in rows[:-1]] == [row["answer"] for row in ROWS[:-1]]
    assert [row["correct"] for row in rows[:-1]] == [True] * (COUNT - 1)
    assert {(row["response_tokens"], row["truncated"]) for row in rows} == {(0, False)}
    scored = [prompter.tokenizer.decode(one.prompt_token_ids[one.score_from :]).strip() for one in engine.asked]
    assert scored == [option for row in ROWS for option in row["options"]]
    assert all(request.draw.max_tokens == 1 for request in engine.asked)


def test_every_model_sees_the_same_examples(tmp_path: Path, folder: Path, prompter: Prompter) -> None:
    shown = [row["question"] for row in sums(3, 90)]
    engines = [ByRote(prompter), ByRote(prompter)]
    for number, engine in enumerate(engines):
        benchmark = entry(folder, "tiny_sums", chatTemplate=True, numFewshot=2)
        longest = Harness([benchmark]).longest(prompter)
        answers(tmp_path / str(number), prompter, engine, benchmark)
        assert longest == max(len(request.prompt_token_ids) for request in engine.asked) + 96
    prompts = [[request.prompt for request in engine.asked] for engine in engines]
    assert prompts[0] == prompts[1]
    assert all(sum(question in prompt for question in shown) == 2 for prompt in prompts[0])
    assert prompts[0][0].count("<|im_start|>user") == 3


def test_the_questions_of_a_group_count_alike_and_what_is_answered_is_not_asked_again(
    tmp_path: Path, folder: Path, prompter: Prompter
) -> None:
    benchmark = Benchmark.model_validate({"name": "both", "uri": str(folder), "limit": 3, "harness": {"task": "tiny"}})
    order = [("both", f"{task}/{n}") for task in ("tiny_sums", "tiny_options") for n in range(3)]
    engine = ByRote(prompter)
    served = Served(engine, prompter, {}, 256)
    with TraceStore(tmp_path / "parts", RESULTS, RESULTS_KEY) as store:
        asyncio.run(Harness([benchmark]).answer(served, 0, store, lambda *_, **__: None, tmp_path / "asked"))
        asked = len(engine.asked)
    assert asked == 3 + 2 * 3
    rows = answers(tmp_path, prompter, engine, benchmark, order=order)
    assert len(engine.asked) == asked
    assert [row["correct"] for row in rows] == [True] * 6


@pytest.mark.parametrize("task", ["tiny_sums", "tiny_options"])
def test_what_was_answered_when_the_engine_died_is_not_asked_again(
    tmp_path: Path, folder: Path, prompter: Prompter, task: str
) -> None:
    benchmark = entry(folder, task)
    whole = ByRote(prompter)
    undisturbed = answers(tmp_path / "whole", prompter, whole, benchmark)
    dying, again = ByRote(prompter, lives=2), ByRote(prompter)
    with pytest.raises(TryAgain, match="died"):
        answers(tmp_path, prompter, dying, benchmark)
    assert answers(tmp_path, prompter, again, benchmark) == undisturbed
    assert len(dying.asked) == 6, "two at a time, and the last two were not answered"
    assert len(again.asked) == len(whole.asked) - 4
    assert not (tmp_path / "asked").exists()


def test_prepare_lists_the_questions_and_keeps_them_out_of_the_training(tmp_path: Path, folder: Path) -> None:
    spec = StageSpec(
        resource="DistillationJob/default/small",
        stage="prepare",
        digest="d",
        output_uri=str(tmp_path),
        params=PrepareParams(
            # The sums share words: what overlaps are the whole questions.
            questions=[
                QuestionSource(uri=str(folder / "test.jsonl")),
                QuestionSource(uri="embedded://questions/code.jsonl", domain="code"),
            ],
            benchmarks=[entry(folder, "tiny_options", "options")],
            decontamination=DecontaminationSpec(),
            verification=VerificationSpec(),
        ),
    )
    assert isinstance(spec.params, PrepareParams)
    result = prepare(StageContext(spec), spec.params)
    assert result.metrics["overlap_options"] == COUNT
    assert (result.metrics["benchmark_questions"], result.metrics["harness_questions"]) == (COUNT, COUNT)
    rows = pq.read_table(tmp_path / "benchmarks.parquet").to_pylist()
    assert [(row["question_id"], row["domain"], row["gold"]) for row in rows] == [
        (f"tiny_options/{n}", HARNESS, row["answer"]) for n, row in enumerate(ROWS)
    ]


def refused(benchmark: Benchmark) -> str:
    with pytest.raises(BadInput) as caught:
        load_tasks(benchmark, "spec.evaluation.benchmarks[0]")
    return str(caught.value)


def test_what_does_not_fit_is_refused_before_anything_is_drawn(tmp_path: Path, folder: Path) -> None:
    where = "spec.evaluation.benchmarks[0]"
    assert f"{where}.harness.task: {folder} has no task or group tiny_sum; near it: tiny_sums" in refused(
        entry(folder, "tiny_sum")
    )
    assert f"{where}.harness.metric: tiny_sums has no acc; set it to one of exact_match" in refused(
        entry(folder, "tiny_sums", metric="acc")
    )
    assert f"{where}.uri: {tmp_path}/none is not a folder here" in refused(entry(tmp_path / "none", "tiny_sums"))
    zero = write_tasks(tmp_path / "zero", 2, num_fewshot=0)
    assert "numFewshot: tiny_sums is defined without examples" in refused(entry(zero, "tiny_sums", numFewshot=2))
    unsafe = write_tasks(tmp_path / "unsafe", 2, unsafe_code=True)
    assert "runs model-written code outside of a sandbox" in refused(entry(unsafe, "tiny_sums"))
    broken = write_tasks(tmp_path / "broken", 2, test_split="validation")
    assert "harness.task: tiny_sums cannot be loaded" in refused(entry(broken, "tiny_sums"))
    assert "perplexity" in refused(entry(_perplexity(tmp_path / "rolling"), "tiny_rolling"))


def _perplexity(folder: Path) -> Path:
    write_tasks(folder, 2)
    text = (folder / "tiny_sums.yaml").read_text().replace("generate_until", "loglikelihood_rolling")
    head, _, rest = text.replace("tiny_sums", "tiny_rolling").partition("metric_list:")
    metric = "metric_list: [{metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}]\n"
    (folder / "tiny_rolling.yaml").write_text(head + metric + rest[rest.index("output_type") :])
    return folder


def test_where_the_harness_is_missing_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert "install kubedistill[harness] in the image of the stages" in refused(
        entry(write_tasks(tmp_path, 2), "tiny_sums")
    )


SAMPLES = [
    {"doc_id": number, "filter": name, "metrics": ["acc", "f1"], "acc": acc, "f1": (0, 1)}
    for name, values in (("strict", (0, 0.0)), ("loose", (1, True)))
    for number, acc in enumerate(values)
]


def test_a_verdict_is_the_metric_under_one_filter() -> None:
    strict = verdicts(SAMPLES, HarnessTask(task="t"), "t", "acc")
    assert strict == {0: (False, "harness:acc,strict"), 1: (False, "harness:acc,strict")}
    loose = verdicts(SAMPLES, HarnessTask(task="t", filter="loose"), "t", "acc")
    assert loose == {0: (True, "harness:acc,loose"), 1: (True, "harness:acc,loose")}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"filter": "odd"}, r"no filter odd; set harness.filter to one of \['strict', 'loose'\]"),
        ({"metric": "f1"}, "f1 does not say right or wrong of each question"),
        ({"metric": "bleu"}, "it has acc, f1"),
    ],
)
def test_what_is_not_right_or_wrong_is_no_score(fields: dict[str, str], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        verdicts(SAMPLES, HarnessTask(task="t", **fields), "t", "acc")
