"""Whole runs: world sizes, accumulation, resume, export, adapters."""

import json
import random
import time

import pytest
import torch
from transformers import AutoModelForCausalLM

from kubedistill_runtime.train import parallel
from kubedistill_runtime.train.batch import collate
from kubedistill_runtime.train.checkpoint import committed_steps
from kubedistill_runtime.train.loop import NonFiniteLoss, Trainer, train
from kubedistill_runtime.train.metrics import read_metrics
from tests.unit.train.tiny_runs import EOS, finish, rows, run, save_model, start, tiny_config, write_jsonl


def losses(metrics):
    return [row["loss"] for row in metrics]


@pytest.fixture
def undisturbed(make_job, world):
    """Metrics of a run of 8 steps in one process."""
    job = make_job("undisturbed")
    train(job, world)
    return read_metrics(job.metrics_path)


def test_one_two_and_four_processes_give_the_same_losses(make_job, undisturbed):
    assert [row["step"] for row in undisturbed] == list(range(1, 9))
    assert undisturbed[-1]["loss"] < undisturbed[0]["loss"] - 0.1, "it learns"
    for size in (2, 4):
        metrics = run(make_job(f"world-{size}"), size)
        assert losses(metrics) == pytest.approx(losses(undisturbed), rel=1e-4)
        for key in ("step", "epoch", "learning_rate", "tokens", "valid_tokens"):
            assert [row[key] for row in metrics] == [row[key] for row in undisturbed]
        assert [row["grad_norm"] for row in metrics] == pytest.approx([r["grad_norm"] for r in undisturbed], rel=1e-3)


def test_layers_sharded_one_by_one_give_the_same_losses(make_job, undisturbed, world, monkeypatch):
    monkeypatch.setattr("kubedistill_runtime.train.parallel.UNIT_BYTES_MIN", 1)
    job = make_job("layers")
    train(job, world)
    assert losses(read_metrics(job.metrics_path)) == losses(undisturbed)


def test_accumulated_micro_batches_equal_one_big_batch(make_job, undisturbed, world):
    job = make_job("accumulated", micro_batch_tokens=64, loss_chunk_tokens=7)
    train(job, world)
    assert losses(read_metrics(job.metrics_path)) == pytest.approx(losses(undisturbed), rel=1e-4)


def test_gradients_reduced_after_each_micro_batch_give_the_same_losses_as_reduced_once(make_job, undisturbed):
    once, each = (make_job(name, micro_batch_tokens=64) for name in ("once", "each"))
    reduced_once = run(once, 2, unreduced=2**30)
    reduced_each = run(each, 2, unreduced=0)
    assert losses(reduced_each) == pytest.approx(losses(reduced_once), rel=1e-5)
    assert losses(reduced_each) == pytest.approx(losses(undisturbed), rel=1e-4)


def test_gradients_wait_for_the_last_micro_batch_only_where_they_are_small(monkeypatch):
    class Root(torch.nn.Linear):
        def set_requires_gradient_sync(self, reduces):
            told.append(reduces)

    told = []
    root = Root(8, 8, bias=False)
    root.register_parameter("frozen", torch.nn.Parameter(torch.zeros(100), requires_grad=False))
    for most in (256, 255):
        monkeypatch.setattr(parallel, "UNREDUCED_BYTES_MAX", most)
        for last in (False, True):
            parallel.accumulate(root, last)
    assert told == [False, True, True, True]


@pytest.mark.parametrize("kind", ["full", "selective"])
def test_recomputed_activations_give_the_same_losses(make_job, undisturbed, world, monkeypatch, kind):
    from kubedistill_runtime.train import loop

    plain = loop.shard
    monkeypatch.setattr(loop, "shard", lambda *a, **options: plain(*a, **(options | {"checkpointing": kind})))
    job = make_job(kind)
    train(job, world)
    assert losses(read_metrics(job.metrics_path)) == losses(undisturbed)


@pytest.mark.parametrize("kind", ["none", "full", "selective"])
def test_layers_are_compiled_also_where_their_activations_are_recomputed(
    make_job, undisturbed, world, monkeypatch, graphs, kind
):
    from kubedistill_runtime.train import loop

    shards = loop.shard
    wanted = {"checkpointing": kind, "compiled": True}
    monkeypatch.setattr(loop, "shard", lambda *a, **options: shards(*a, **(options | wanted)))
    trainer = Trainer(make_job(kind), world)
    assert trainer.step(0)["loss"] == pytest.approx(losses(undisturbed)[0], rel=1e-4)
    assert len(graphs) == 1, "one graph for all layers"


def test_a_killed_run_goes_on_as_if_nothing_had_happened(make_job, undisturbed):
    job = make_job("killed")
    processes = start(job, 1, pause=0.25)
    wanted = random.SystemRandom().randint(3, 7)
    deadline = time.monotonic() + 90
    while len(read_metrics(job.metrics_path)) < wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    processes[0].kill()
    finish(processes)
    before = losses(read_metrics(job.metrics_path))
    assert wanted <= len(before) < 8
    assert before == losses(undisturbed)[: len(before)]
    metrics = run(job)
    assert [row["step"] for row in metrics] == list(range(1, 9)), "each step exactly once"
    assert losses(metrics) == losses(undisturbed), "bitwise"
    summary = json.loads(job.summary_path.read_text())
    assert summary["resumed_from_step"] in (0, 3, 6)
    assert summary["tokens"] == sum(row["tokens"] for row in undisturbed)


def test_a_run_goes_on_at_another_world_size(make_job, undisturbed):
    job = make_job("moved")
    processes = start(job, 2, pause=0.2)
    deadline = time.monotonic() + 90
    while not committed_steps(job.checkpoint_dir) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in processes:
        process.kill()
    finish(processes)
    assert committed_steps(job.checkpoint_dir)
    assert not job.summary_path.exists()
    metrics = run(job, 1)
    assert json.loads(job.summary_path.read_text())["resumed_from_step"] >= 3
    assert [row["step"] for row in metrics] == list(range(1, 9))
    assert losses(metrics) == pytest.approx(losses(undisturbed), rel=1e-4)


def test_a_finished_run_is_not_run_again(make_job, world):
    job = make_job()
    first = train(job, world)
    written = job.metrics_path.stat().st_mtime_ns
    assert train(job, world) == first
    assert job.metrics_path.stat().st_mtime_ns == written


@pytest.mark.parametrize("tied", [True, False])
def test_the_exported_model_gives_the_trainers_logits(make_job, world, tmp_path, tied):
    model = save_model(tiny_config(tie_word_embeddings=tied), tmp_path / "base")
    job = make_job(model=model, max_steps=3)
    trainer = Trainer(job, world)
    for step in range(3):
        trainer.step(step)
    trainer.export()
    exported = AutoModelForCausalLM.from_pretrained(job.model_dir)
    assert exported.dtype == torch.float32
    example = trainer.dataset.examples[0]
    ids = torch.from_numpy(example.token_ids.astype("int64"))
    with torch.no_grad():
        loss = trainer.objective(collate([example], "sdpa", world.device), 1.0)
        logits = exported(input_ids=ids[None]).logits[0, example.prompt_tokens - 1 : -1]
    expected = torch.nn.functional.cross_entropy(logits, ids[example.prompt_tokens :], reduction="sum")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, tensor in exported.state_dict().items():
        ours = dict(trainer.model.state_dict())[name].full_tensor()
        assert torch.equal(tensor, ours), name


def test_the_export_is_readable_by_all_and_keeps_tokenizer_and_dtype(make_job, world, tmp_path):
    base = save_model(tiny_config(), tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    (base / "tokenizer.json").write_text('{"kept": "as it is"}')
    (base / "chat_template.jinja").write_text("{{ messages }}")
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS, 5], "temperature": 0.6}))
    job = make_job(model=base, max_steps=1)
    train(job, world)
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (job.model_dir / name).read_text() == (base / name).read_text()
    assert {path.stat().st_mode & 0o777 for path in job.model_dir.iterdir()} == {0o644}
    written = json.loads((job.model_dir / "config.json").read_text())
    assert written["dtype"] == "bfloat16"
    assert written["architectures"] == ["Qwen3ForCausalLM"]
    assert {p.dtype for p in AutoModelForCausalLM.from_pretrained(job.model_dir).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("size", [1, 2])
def test_adapters_alone_are_trained_and_come_out_merged_and_apart(make_job, model_path, size):
    from peft import PeftModel
    from safetensors.torch import load_file

    lora = {"rank": 4, "alpha": 8.0, "dropout": 0.1}
    job = make_job("lora", lora=lora, max_steps=6, checkpoint_every_steps=3)
    metrics = run(job, size)
    assert losses(metrics)[-1] < losses(metrics)[0]
    base = AutoModelForCausalLM.from_pretrained(model_path)
    merged = AutoModelForCausalLM.from_pretrained(job.model_dir)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, job.model_dir / "adapter").eval()(ids).logits
        assert (adapted - plain).abs().max() > 1e-3
        torch.testing.assert_close(merged(ids).logits, adapted, rtol=1e-4, atol=1e-4)
    names = load_file(job.model_dir / "adapter" / "adapter_model.safetensors")
    assert names
    assert all("lora_" in name for name in names)
    embedding = AutoModelForCausalLM.from_pretrained(model_path).get_input_embeddings().weight
    assert torch.equal(merged.get_input_embeddings().weight, embedding), "the embedding has no adapter"


def test_a_loss_that_is_no_number_stops_the_run_before_the_weights_are_touched(make_job, world, tmp_path):
    base = save_model(tiny_config(), tmp_path / "base")
    from safetensors.torch import load_file, save_file

    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    trainer = Trainer(make_job(model=base), world)
    embedding = trainer.model.get_input_embeddings().weight.full_tensor().clone()
    with pytest.raises(NonFiniteLoss, match=r"step 1: loss nan.*lower learningRate"):
        trainer.step(0)
    assert torch.equal(trainer.model.get_input_embeddings().weight.full_tensor(), embedding)


def test_each_step_leaves_a_row_and_counts_are_kept(make_job, world, tmp_path):
    data = write_jsonl(tmp_path / "c.jsonl", rows(13) + rows(2, seed=1, shortest=65, longest=70))
    job = make_job(data=data, epochs=1)
    summary = train(job, world)
    told = [json.loads(line) for line in job.metrics_path.read_text().splitlines()]
    assert [(row["step"], row["total_steps"]) for row in told] == [(1, 3), (2, 3), (3, 3)]
    assert (summary["rows"], summary["examples"], summary["dropped_overlong"]) == (15, 13, 2)
    assert summary["tokens"] == sum(len(r["prompt_token_ids"]) + len(r["response_token_ids"]) for r in rows(13))
    assert summary["epochs"] == 1


@pytest.mark.engine
def test_the_exported_model_loads_in_vllm_and_says_what_transformers_says(make_job, world, tmp_path):
    import subprocess
    import sys

    base = save_model(tiny_config(hidden_size=128, head_dim=32), tmp_path / "base")
    job = make_job(model=base, max_steps=4)
    train(job, world)
    prompt = list(range(3, 13))
    program = (
        "from vllm import LLM, SamplingParams\n"
        f"llm = LLM({str(job.model_dir)!r}, skip_tokenizer_init=True, enforce_eager=True, max_model_len=128)\n"
        f"out = llm.generate([{{'prompt_token_ids': {prompt}}}], SamplingParams(temperature=0, max_tokens=8,"
        " ignore_eos=True, detokenize=False))\n"
        "print('TOKENS', list(out[0].outputs[0].token_ids))\n"
    )
    environment = {
        **__import__("os").environ,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.rsplit("TOKENS", 1)[1])
    ids = torch.tensor([prompt])
    exported = AutoModelForCausalLM.from_pretrained(job.model_dir)
    wanted = exported.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)[0, 10:]
    assert said == wanted.tolist()
