"""The tiny task, its tokenizer, its builder, and the models and questions that are shipped."""

import dataclasses
import json
import random
import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kubedistill_runtime.tiny import DATA, embedded_names, embedded_path
from kubedistill_runtime.tiny.accuracy import accuracy, boxed_answer, sample_traces
from kubedistill_runtime.tiny.corpus import IGNORED, Mixture, draw_batches
from kubedistill_runtime.tiny.muon import Muon, orthogonalise
from kubedistill_runtime.tiny.pretrain import pretrain, save
from kubedistill_runtime.tiny.recipe import RECIPES, clean_styles
from kubedistill_runtime.tiny.task import (
    HIGHEST,
    LEVELS,
    STYLES,
    Question,
    benchmark_questions,
    draw_question,
    render_trace,
    train_questions,
)
from kubedistill_runtime.tiny.tokenizer import MARKS, WORDS, build_tokenizer, render_prompt

MODELS = sorted(RECIPES)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in embedded_path(name).read_text().splitlines()]


def steps(trace: str) -> list[tuple[str, int]]:
    """The equations of a trace, each as its left side and its right side."""
    return [(left, int(right)) for left, right in re.findall(r"(\d[\d+-]*)=(\d+)", trace)]


# Task


def test_questions_are_fixed_disjoint_and_even_over_levels():
    train, benchmark = train_questions(), benchmark_questions()
    assert train == train_questions()
    assert len(set(train)) == 300
    assert len(set(benchmark)) == 102
    assert not set(train) & set(benchmark)
    for level in LEVELS:
        assert sum(len(question.terms) == level for question in train) == 50
        assert sum(len(question.terms) == level for question in benchmark) == 17


def test_every_prefix_total_is_within_bounds():
    for question in train_questions() + benchmark_questions():
        totals = [sum(question.terms[:end]) for end in range(1, len(question.terms) + 1)]
        assert all(0 <= total <= HIGHEST for total in totals)


def test_the_expression_evaluates_to_the_answer():
    for question in train_questions():
        assert eval(question.expression) == question.answer


@pytest.mark.parametrize("style", STYLES)
def test_a_trace_without_slips_is_right_in_every_step(style):
    rng = random.Random(0)
    for question in train_questions():
        trace = render_trace(question, style, rng)
        assert boxed_answer(trace) == question.answer
        assert all(eval(left) == right for left, right in steps(trace))


@pytest.mark.parametrize("style", ["run", "words", "group"])
def test_a_slip_is_carried_on_to_the_answer(style):
    rng = random.Random(0)
    question = Question((4, 8, -3, 6, 2, -1))
    answers = [boxed_answer(render_trace(question, style, rng, slip=0.1)) for _ in range(300)]
    # Five or six steps, each right with probability 0.9.
    assert 0.4 < sum(answer == question.answer for answer in answers) / 300 < 0.75
    assert all(0 <= answer <= HIGHEST for answer in answers)


def test_styles_look_as_documented():
    question, rng = Question((4, 8, -3)), random.Random(0)
    body = {style: render_trace(question, style, rng).split("\n")[1:-2] for style in STYLES}
    assert body == {
        "run": ["4+8=12", "12-3=9"],
        "words": ["start 4", "add 8 get 12", "take 3 get 9"],
        "group": ["plus 4", "4+8=12", "minus 3", "total 12-3=9"],
        "terse": ["4+8-3=9"],
        "direct": ["4+8-3=9"],
    }


# Tokenizer


def test_any_text_survives_the_tokenizer(tokenizer):
    for text in (
        "Compute 4+8-3.",
        "naïve 東京 🙂\r\n\t x_y",
        r"\boxed{12}",
        "<think>\n1+2=3\n</think>",
        "  two  spaces ",
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_traces_survive_decoding_without_special_tokens(tokenizer):
    rng = random.Random(0)
    for style in STYLES:
        trace = render_trace(draw_question(rng, 8), style, rng)
        ids = tokenizer.encode(trace + tokenizer.eos_token)
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == trace


def test_words_and_marks_are_single_tokens(tokenizer):
    assert all(len(tokenizer.encode(text)) == 1 for text in (*WORDS, *MARKS))


def test_the_chat_template_gives_the_training_prompt(tokenizer):
    text = train_questions()[0].text
    messages = [{"role": "user", "content": text}]
    assert tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) == render_prompt(text)
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == tokenizer.encode(render_prompt(text))


def test_the_tokenizer_is_built_alike_and_equals_the_shipped_one(tokenizer, tmp_path):
    build_tokenizer().save_pretrained(tmp_path)
    for name in MODELS:
        shipped = embedded_path(f"models/{name}")
        assert (shipped / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
        assert (shipped / "chat_template.jinja").read_bytes() == (tmp_path / "chat_template.jinja").read_bytes()


# Builder


def test_batches_hold_whole_traces_and_no_held_out_question(tokenizer):
    held_out = {render_prompt(question.text) for question in train_questions() + benchmark_questions()}
    batches = draw_batches(tokenizer, Mixture(clean_styles(1.0, slip=0.0)), 24, random.Random(0))
    for _ in range(20):
        input_ids, labels = next(batches)
        for ids, targets in zip(input_ids, labels, strict=True):
            learnt = targets != IGNORED
            assert torch.equal(ids[learnt], targets[learnt])
            assert targets[learnt][-1] == tokenizer.eos_token_id
            prompt = tokenizer.decode(ids[: learnt.nonzero()[0]])
            assert prompt not in held_out
            expression = re.search(r"Compute (.*)\.", prompt)[1]
            assert boxed_answer(tokenizer.decode(targets[learnt])) == eval(expression)


def test_muon_updates_are_nearly_orthogonal():
    torch.manual_seed(0)
    for shape in ((2, 32, 96), (2, 96, 32)):
        singular_values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert singular_values.min() > 0.5
        assert singular_values.max() < 1.5


def test_muon_lowers_a_quadratic_loss():
    torch.manual_seed(0)
    weight, target = torch.nn.Parameter(torch.zeros(8, 8)), torch.randn(8, 8)
    optimizer = Muon([weight], lr=0.05)
    losses = []
    for _ in range(100):
        loss = (weight - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_a_recipe_builds_the_same_weights_twice(tokenizer, tmp_path):
    student = RECIPES["student"]
    short = dataclasses.replace(student, phases=tuple(dataclasses.replace(p, steps=3) for p in student.phases))
    first, second = pretrain(short, tokenizer), pretrain(short, tokenizer)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name
    save(first, tokenizer, tmp_path / "model")
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in (tmp_path / "model").iterdir())
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").dtype == torch.bfloat16


# What is shipped


def test_embedded_names_resolve():
    assert embedded_names() == sorted(
        [f"models/{name}" for name in MODELS] + [f"questions/{name}.jsonl" for name in ("benchmark", "code", "train")]
    )
    assert all(embedded_path(name).exists() for name in embedded_names())


@pytest.mark.parametrize("name", ["", "models", "models/absent", "../task.py", "/etc/passwd", "questions/../README.md"])
def test_an_unknown_embedded_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"models/student.*questions/train\.jsonl"):
        embedded_path(name)


def test_the_shipped_questions_are_those_of_the_task():
    assert rows("questions/train.jsonl") == [question.row() for question in train_questions()]
    assert rows("questions/benchmark.jsonl") == [question.row() for question in benchmark_questions()]


def test_the_shipped_data_are_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 4_000_000


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_has_the_architecture_of_its_recipe(name, tokenizer):
    config = json.loads((embedded_path(f"models/{name}") / "config.json").read_text())
    recipe = RECIPES[name].config(tokenizer)
    assert config["hidden_size"] == recipe.hidden_size
    assert config["max_position_embeddings"] == recipe.max_position_embeddings
    assert config["eos_token_id"] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("name", "lowest", "highest"), [("careless-teacher", 0.6, 0.92), ("terse-teacher", 0.8, 1.0), ("student", 0.1, 0.5)]
)
def test_a_shipped_model_ends_its_answers_and_is_as_accurate_as_documented(name, lowest, highest):
    folder = embedded_path(f"models/{name}")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    traces = sample_traces(model, AutoTokenizer.from_pretrained(folder), benchmark_questions(), samples=1)
    texts = [text for texts in traces.values() for text in texts]
    assert (
        sum(re.fullmatch(r"<think>\n.*\n</think>\n\\boxed\{\d+\}", text, re.DOTALL) is not None for text in texts) > 95
    )
    assert lowest < accuracy(traces) < highest


def second_largest(text):
    values = sorted(set(map(int, text.split())))
    return values[-2] if len(values) > 1 else "none"


def balanced(text):
    text = text.strip()
    while text != (shorter := re.sub(r"\(\)|\[\]|\{\}", "", text)):
        text = shorter
    return "no" if text else "yes"


def repeated(text):
    names = text.split("\n")[1:-1]
    return "\n".join(dict.fromkeys(name for name in names if names.count(name) > 1)) or "none"


def shortest_way(text):
    grid = text.split("\n")[1:-1]
    goal = (len(grid) - 1, len(grid[0]) - 1)
    reached, edge, length = set(), {(0, 0)}, 0
    while edge:
        if goal in edge:
            return length
        reached |= edge
        near = {(r + dr, c + dc) for r, c in edge for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))}
        edge = {(r, c) for r, c in near - reached if 0 <= r <= goal[0] and 0 <= c <= goal[1] and grid[r][c] == "."}
        length += 1
    return -1


def fewest_coins(text):
    amount, coins = int(text.split("\n")[0]), [int(coin) for coin in text.split("\n")[1].split()]
    sums, count = {0}, 0
    while amount not in sums:
        grown = {total + coin for total in sums for coin in coins if total + coin <= amount}
        if grown <= sums:
            return -1
        sums, count = sums | grown, count + 1
    return count


def run_lengths(text):
    return [[run[0][0], len(run[0])] for run in re.finditer(r"(.)\1*", text)]


def merge_intervals(intervals):
    merged = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged


def to_roman(number):
    values = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
    signs = ("M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I")
    out = ""
    for value, sign in zip(values, signs, strict=True):
        out, number = out + sign * (number // value), number % value
    return out


def longest_rise(values):
    best = []
    for end, value in enumerate(values):
        best.append(1 + max((best[k] for k in range(end) if values[k] < value), default=0))
    return max(best, default=0)


PROGRAMS = [
    second_largest,
    lambda text: " ".join(reversed(text.split())),
    balanced,
    repeated,
    shortest_way,
    fewest_coins,
    run_lengths,
    merge_intervals,
    to_roman,
    longest_rise,
]


def test_the_code_questions_agree_with_a_right_program():
    questions = rows("questions/code.jsonl")
    assert len(questions) == len(PROGRAMS)
    for row, program in zip(questions, PROGRAMS, strict=True):
        tests = row["tests"]
        assert len(tests["inputs"]) == len(tests["outputs"]) >= 3
        for given, expected in zip(tests["inputs"], tests["outputs"], strict=True):
            if "fn_name" in tests:
                assert tests["fn_name"] == program.__name__
                assert program(*given) == expected, row["question"]
            else:
                assert str(program(given)) == expected, row["question"]
