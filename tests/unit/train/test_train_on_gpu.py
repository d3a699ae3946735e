"""The trainer on a GPU: each attention kernel against the plain model, and a run that is killed and goes on.

Skipped without a GPU. Needs torch, transformers, pydantic, numpy and pyarrow alone.
"""

import dataclasses
import json
import time

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config

from kubedistill_runtime.train.attention import choose_kernel, make_documents
from kubedistill_runtime.train.batch import collate
from kubedistill_runtime.train.checkpoint import committed_steps
from kubedistill_runtime.train.dataset import load_dataset
from kubedistill_runtime.train.metrics import read_metrics
from kubedistill_runtime.train.model import Objective, decoder_layers, load_model, read_config
from kubedistill_runtime.train.parallel import _prepare
from tests.unit.train.tiny_runs import EOS, VOCAB, finish, rows, run, save_model, start, tiny_config, write_jsonl

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

larger = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64, "max_position_embeddings": 1024}
FAMILIES = {
    "qwen3": tiny_config(**larger),
    "sliding": tiny_config(**larger, use_sliding_window=True, sliding_window=32, max_window_layers=1),
    "softcap": Gemma2Config(
        **larger, vocab_size=VOCAB, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        query_pre_attn_scalar=64, sliding_window=32,
    ),
}  # fmt: skip
CASES = [
    (family, kernel, how)
    for family in FAMILIES
    for kernel in ("flash", "flex", "sdpa")
    for how in ("plain", "compiled", "compiled-selective")
    # One call per document would be another program for every batch; FlashAttention of torch has no soft cap.
    if not (kernel == "sdpa" and how != "plain") and not (family == "softcap" and kernel == "flash")
]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    path = write_jsonl(tmp_path_factory.mktemp("c") / "c.jsonl", rows(9, shortest=40, longest=400))
    return load_dataset(path, context_length=400, vocab_size=VOCAB, eos_token_ids=frozenset({EOS})).examples


def gradients(model):
    return torch.cat([parameter.grad.float().flatten().cpu() for parameter in model.parameters()])


@pytest.fixture(scope="module")
def trace_by_trace(examples, tmp_path_factory):
    """By family: the model's folder, and loss and gradients of transformers' own model in fp32, trace by trace."""
    found = {}
    for family, config in FAMILIES.items():
        path = save_model(config, tmp_path_factory.mktemp(family))
        plain = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager", dtype=torch.float32).cuda()
        total = 0.0
        for example in examples:
            ids = torch.tensor(example.token_ids.astype(int), device="cuda")[None]
            logits = plain(input_ids=ids).logits[0, example.prompt_tokens - 1 : -1]
            loss = torch.nn.functional.cross_entropy(logits, ids[0, example.prompt_tokens :], reduction="sum")
            loss.backward()
            total += loss.item()
        found[family] = (path, total, gradients(plain))
    return found


@pytest.mark.parametrize(("family", "kernel", "how"), CASES)
def test_packed_loss_and_gradients_equal_those_of_the_plain_model(family, kernel, how, examples, trace_by_trace):
    path, loss, wanted = trace_by_trace[family]
    model = load_model(path, read_config(path), torch.bfloat16).cuda()
    objective = Objective(model, chunk=100, compiled=how != "plain")
    for layer in decoder_layers(model):
        _prepare(layer, "selective" if how == "compiled-selective" else "none", how != "plain")
    chosen = choose_kernel(kernel, torch.device("cuda"))
    batch = collate(examples, chosen, torch.device("cuda"), pad_to=4096 if how != "plain" else 0)

    def measured(documents):
        model.zero_grad(set_to_none=True)
        value = objective(dataclasses.replace(batch, documents=documents), 1.0)
        value.backward()
        return value.item(), gradients(model)

    def apart(found):
        return (found - wanted).norm() / wanted.norm()

    packed, found = measured(batch.documents)
    assert packed == pytest.approx(loss, rel=5e-3)
    # Within bf16's rounding; traces that see one another are far outside of it.
    assert apart(found) < 0.03
    _, leaking = measured(make_documents([len(batch.input_ids)], chosen, torch.device("cuda")))
    assert apart(leaking) > 0.1


@pytest.mark.parametrize("attention", ["flash", "flex", "sdpa"])
def test_a_killed_run_goes_on_where_it_was(make_job, tmp_path, attention):
    model = save_model(tiny_config(**larger), tmp_path / "model")

    def job(name, **changes):
        made = make_job(name, model=model, attention=attention, learning_rate=1e-3, **changes)
        return made.model_copy(update={"device": "cuda"})

    whole = [row["loss"] for row in run(job("whole"))]
    assert whole[-1] < whole[0] - 0.1, "it learns"
    killed = job("killed")
    processes = start(killed, 1, pause=0.5)
    deadline = time.monotonic() + 120
    while not committed_steps(killed.checkpoint_dir) and time.monotonic() < deadline:
        time.sleep(0.05)
    processes[0].kill()
    finish(processes)
    assert 3 <= len(read_metrics(killed.metrics_path)) < 8
    metrics = run(killed)
    assert [row["step"] for row in metrics] == list(range(1, 9))
    # Not bitwise: the kernels' backward passes add in whatever order their blocks end.
    assert [row["loss"] for row in metrics] == pytest.approx(whole, rel=2e-3)
    on_cpu = make_job("cpu", model=model, learning_rate=1e-3)
    assert [row["loss"] for row in run(on_cpu)] == pytest.approx(whole, rel=1e-2), "bf16 follows fp32"
    measured, wanted = (json.loads(one.covariates_path.read_text()) for one in (killed, on_cpu))
    assert measured["tokens"] == wanted["tokens"]
    for name in ("nll", "entropy"):
        assert measured[name]["mean"] == pytest.approx(wanted[name]["mean"], rel=1e-2)
    assert measured["shift"]["distance"] > 0
