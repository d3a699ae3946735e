"""Reading a corpus."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.train.dataset import load_dataset
from tests.unit.train.tiny_runs import EOS, VOCAB, rows, write_jsonl


def load(path, context_length=64):
    return load_dataset(path, context_length=context_length, vocab_size=VOCAB, eos_token_ids=frozenset({EOS}))


def test_a_trace_is_prompt_plus_response_and_only_the_response_is_a_target(tmp_path):
    row = {"prompt_token_ids": [5, 6, 7], "response_token_ids": [8, 9, EOS]}
    example = load(write_jsonl(tmp_path / "c.jsonl", [row])).examples[0]
    assert example.token_ids.tolist() == [5, 6, 7, 8, 9, EOS]
    assert (example.prompt_tokens, example.inputs, example.targets) == (3, 5, 3)


def test_overlong_traces_are_dropped_and_counted_and_never_cut(tmp_path):
    records = rows(10, longest=40) + rows(3, seed=1, shortest=65, longest=80)
    data = load(write_jsonl(tmp_path / "c.jsonl", records))
    assert data.counts() == {
        "rows": 13, "examples": 10, "dropped_overlong": 3, "dropped_empty": 0, "without_eos": 0,
    }  # fmt: skip
    assert max(len(e.token_ids) for e in data.examples) <= 40


def test_a_trace_of_exactly_the_context_length_stays(tmp_path):
    records = rows(4, shortest=64, longest=64)
    assert len(load(write_jsonl(tmp_path / "c.jsonl", records)).examples) == 4


def test_responses_without_end_of_sequence_are_counted_and_kept(tmp_path):
    records = [{"prompt_token_ids": [4], "response_token_ids": [5, last]} for last in (EOS, 6, 7)]
    data = load(write_jsonl(tmp_path / "c.jsonl", records))
    assert (len(data.examples), data.without_eos) == (3, 2)


def test_empty_prompts_and_responses_are_dropped_and_counted(tmp_path):
    records = [*rows(2), {"prompt_token_ids": [], "response_token_ids": [5]}, {**rows(1)[0], "response_token_ids": []}]
    assert load(write_jsonl(tmp_path / "c.jsonl", records)).dropped_empty == 2


def test_parquet_jsonl_and_a_folder_of_parts_give_the_same_examples(tmp_path):
    records = rows(12)
    single = load(write_jsonl(tmp_path / "all.jsonl", records))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "all.parquet")
    parts = tmp_path / "parts"
    parts.mkdir()
    pq.write_table(pa.Table.from_pylist(records[7:]), parts / "a.parquet")
    write_jsonl(parts / "b.jsonl", records[:7])
    for other in (load(tmp_path / "all.parquet"), load(parts)):
        assert [e.token_ids.tolist() for e in other.examples] == [e.token_ids.tolist() for e in single.examples]
        assert [e.prompt_tokens for e in other.examples] == [e.prompt_tokens for e in single.examples]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json\n", "line 1 is not JSON"),
        ('{"prompt_token_ids": [1]}\n', "no response_token_ids"),
        ('{"prompt_token_ids": "ab", "response_token_ids": [1]}\n', "list of integers"),
        ('{"prompt_token_ids": [1], "response_token_ids": [1.5]}\n', "list of integers"),
        ('{"prompt_token_ids": [1], "response_token_ids": [999]}\n', "another tokenizer"),
        ("", "leaves no example"),
    ],
)
def test_a_malformed_corpus_is_named(tmp_path, content, message):
    path = tmp_path / "c.jsonl"
    path.write_text(content)
    with pytest.raises(BadInput, match=message):
        load(path)


def test_a_context_too_short_for_every_trace_is_named(tmp_path):
    with pytest.raises(BadInput, match="longer than contextLength 4"):
        load(write_jsonl(tmp_path / "c.jsonl", rows(3)), context_length=4)


def test_files_that_are_no_corpus_are_named(tmp_path):
    with pytest.raises(BadInput, match="not found"):
        load(tmp_path / "missing.parquet")
    (tmp_path / "x.parquet").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="not a Parquet file"):
        load(tmp_path / "x.parquet")
    with pytest.raises(BadInput, match=r"expected a \.parquet or \.jsonl"):
        load(write_jsonl(tmp_path / "x.csv", []))
