"""What the corpus is to the student before training, and how far training moves the student."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from kubedistill_runtime.train import covariates as module
from kubedistill_runtime.train import loop
from kubedistill_runtime.train.distribution import WIDTH, Distribution
from kubedistill_runtime.train.loop import NonFiniteLoss, Trainer, train
from kubedistill_runtime.train.loss import Head, token_measures
from kubedistill_runtime.train.metrics import read_metrics
from kubedistill_runtime.train.model import Objective
from kubedistill_runtime.train.shift import main_axes, moved, shift
from tests.unit.train.tiny_runs import run


def told(job):
    return json.loads(job.covariates_path.read_text())


@pytest.fixture
def trainer(make_job, world):
    return Trainer(make_job(), world)


def plain_measures(trainer):
    """Negative log-likelihood and entropy of every response token by a plain model, one trace at a time."""
    model = AutoModelForCausalLM.from_pretrained(trainer.job.model_path)
    nll, entropy = [], []
    for example in trainer.dataset.examples:
        ids = torch.from_numpy(example.token_ids.astype("int64"))
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0, example.prompt_tokens - 1 : -1]
        nll.append(torch.nn.functional.cross_entropy(logits, ids[example.prompt_tokens :], reduction="none"))
        entropy.append(torch.distributions.Categorical(logits=logits).entropy())
    return torch.cat(nll).numpy(), torch.cat(entropy).numpy()


@pytest.mark.parametrize("changes", [{}, {"lora": {"rank": 4, "alpha": 8.0, "dropout": 0.5}}, {"loss_chunk_tokens": 7}])
def test_likelihood_and_entropy_are_those_of_a_plain_model(make_job, world, changes):
    job = make_job(max_steps=1, **changes)
    train(job, world)
    nll, entropy = plain_measures(Trainer(job, world))
    content = told(job)
    assert content["tokens"] == len(nll)
    assert content["traces"] == 20
    assert content["meanTokens"] == pytest.approx(len(nll) / 20)
    for name, expected in (("nll", nll), ("entropy", entropy)):
        found = content[name]
        assert found["mean"] == pytest.approx(expected.mean(), rel=1e-5)
        assert found["std"] == pytest.approx(expected.std(), rel=1e-4)
        for percent, value in found["quantiles"].items():
            near = np.quantile(expected, int(percent) / 100, method="inverted_cdf")
            assert value == pytest.approx(near, abs=2 * WIDTH)
        assert sum(found["histogram"]["counts"]) == len(expected)
    summary = json.loads(job.summary_path.read_text())
    assert summary["corpus_nll"] == content["nll"]["mean"]
    assert summary["corpus_entropy_median"] == content["entropy"]["quantiles"]["50"]
    assert summary["state_shift"] == content["shift"]["distance"]


def test_states_are_the_means_of_each_layers_output_over_the_first_tokens(trainer, monkeypatch):
    monkeypatch.setattr(module, "TOKENS", 10)
    monkeypatch.setattr(module, "DOCUMENTS", 3)
    found = trainer.covariates()._states()
    model = AutoModelForCausalLM.from_pretrained(trainer.job.model_path)
    assert found.shape == (2, 20, 64)
    for at, example in enumerate(trainer.dataset.examples):
        ids = torch.from_numpy(example.token_ids[:10].astype("int64"))
        outputs = []
        handles = [layer.register_forward_hook(lambda *a: outputs.append(a[2])) for layer in model.model.layers]  # noqa: B023
        with torch.no_grad():
            model(input_ids=ids[None])
        for handle in handles:
            handle.remove()
        expected = torch.stack([out[0].mean(0) for out in outputs])
        np.testing.assert_allclose(found[:, at], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_an_untrained_model_has_not_moved_and_a_trained_one_has(trainer):
    covariates = trainer.covariates()
    covariates.before()
    assert covariates.after()["state_shift"] == 0
    for step in range(4):
        trainer.step(step)
    assert covariates.after()["state_shift"] > 1e-4
    content = told(trainer.job)
    assert len(content["shift"]["layers"]) == 2
    assert content["shift"]["distance"] == pytest.approx(np.linalg.norm(np.mean(content["shift"]["layers"], 0)))


def test_two_processes_measure_what_one_does(make_job, world):
    one, two = make_job("one"), make_job("two")
    train(one, world)
    run(two, 2)
    alone, shared = told(one), told(two)
    assert shared["tokens"] == alone["tokens"]
    for name in ("nll", "entropy"):
        for key in ("mean", "std"):
            assert shared[name][key] == pytest.approx(alone[name][key], rel=1e-5)
        assert sum(shared[name]["histogram"]["counts"]) == alone["tokens"]
    assert shared["shift"]["distance"] == pytest.approx(alone["shift"]["distance"], rel=1e-2)


def test_measuring_leaves_the_training_bitwise_as_it_was(make_job, world):
    with_it, without = make_job("with"), make_job("without", measure_corpus=False)
    train(with_it, world)
    train(without, world)
    assert [row["loss"] for row in read_metrics(with_it.metrics_path)] == [
        row["loss"] for row in read_metrics(without.metrics_path)
    ]
    assert not without.covariates_path.exists()
    assert not without.base_measures_path.exists()
    assert "corpus_nll" not in json.loads(without.summary_path.read_text())


class Killed(Exception):
    pass


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_that_goes_on_has_the_measures_of_the_base(make_job, world, monkeypatch, lost):
    whole, job = make_job("whole"), make_job("killed")
    train(whole, world)
    step = Trainer.step

    def dies(self, number):
        if number == 7:
            raise Killed
        return step(self, number)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", dies)
        patched.setattr(loop.Checkpointer, "poll", loop.Checkpointer.wait)
        with pytest.raises(Killed):
            train(job, world)
    if lost:
        job.base_measures_path.unlink()
    else:
        monkeypatch.setattr(Objective, "measures", lambda *_: pytest.fail("measured again"))
    assert train(job, world)["resumed_from_step"] == 6
    assert told(job) == told(whole)
    assert read_metrics(job.metrics_path)[-1]["loss"] == read_metrics(whole.metrics_path)[-1]["loss"]


def test_what_another_training_left_in_the_folder_is_not_taken(make_job, world):
    Trainer(first := make_job(max_steps=1), world).covariates().before()
    before = first.base_measures_path.stat().st_mtime_ns
    Trainer(first, world).covariates().before()
    assert first.base_measures_path.stat().st_mtime_ns == before
    Trainer(make_job(max_steps=1, seed=1), world).covariates().before()
    assert first.base_measures_path.stat().st_mtime_ns != before


@pytest.mark.parametrize("checkpointing", ["none", "full", "selective"])
def test_measuring_compiles_nothing_and_keeps_no_activations(make_job, world, monkeypatch, graphs, checkpointing):
    shards = loop.shard
    wanted = {"checkpointing": checkpointing, "compiled": True}
    monkeypatch.setattr(loop, "shard", lambda *a, **options: shards(*a, **(options | wanted)))
    compiled = Trainer(make_job("compiled"), world)
    compiled.objective.compiled = True
    compiled.covariates().before()
    assert graphs == []
    monkeypatch.undo()
    plain = Trainer(make_job("plain"), world)
    plain.covariates().before()
    with np.load(compiled.job.base_measures_path) as one, np.load(plain.job.base_measures_path) as other:
        np.testing.assert_allclose(one["nll"][:3], other["nll"][:3], rtol=1e-5)
        np.testing.assert_allclose(one["mean"], other["mean"], rtol=1e-4, atol=1e-6)


def test_weights_that_give_no_numbers_are_left_to_the_first_step(make_job, world, tmp_path):
    from safetensors.torch import load_file, save_file

    from tests.unit.train.tiny_runs import save_model, tiny_config

    base = save_model(tiny_config(), tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    job = make_job(model=base)
    with pytest.raises(NonFiniteLoss, match="step 1: loss nan"):
        train(job, world)
    assert not job.base_measures_path.exists()


@pytest.mark.parametrize("head", [Head(), Head(softcap=3.0), Head(multiplier=0.25)])
def test_token_measures_equal_those_of_all_logits_at_once(head):
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(37, 16), torch.randn(50, 16), torch.randn(50)
    target = torch.randint(0, 50, (37,))
    logits = torch.nn.functional.linear(hidden, weight, bias) * head.multiplier
    if head.softcap:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    expected = torch.stack(
        [
            torch.nn.functional.cross_entropy(logits, target, reduction="none"),
            torch.distributions.Categorical(logits=logits).entropy(),
        ]
    )
    found = token_measures(hidden, weight, target, chunk=8, bias_W=bias, head=head)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_token_that_is_ruled_out_adds_nothing_to_the_entropy():
    bias = torch.tensor([0.0, 0.0, -torch.inf])
    found = token_measures(torch.ones(1, 4), torch.zeros(3, 4), torch.tensor([1]), chunk=8, bias_W=bias)
    torch.testing.assert_close(found, torch.full((2, 1), np.log(2), dtype=torch.float32))


@given(st.lists(st.floats(0, 40), min_size=1, max_size=60), st.integers(0, 60))
def test_parts_of_a_distribution_add_up_and_quantiles_are_near(values, cut):
    values = np.array(values)
    whole, one, other = Distribution(), Distribution(), Distribution()
    whole.add(values)
    one.add(values[:cut])
    other.add(values[cut:])
    both = Distribution(one.sums + other.sums)
    assert both.number == len(values)
    assert np.array_equal(both.sums[3:], whole.sums[3:])
    assert both.mean == pytest.approx(values.mean())
    assert whole.deviation == pytest.approx(values.std(), abs=1e-4)
    capped = np.minimum(values, 32)
    for share in (0.1, 0.5, 0.9):
        assert whole.quantile(share) == pytest.approx(
            np.quantile(capped, share, method="inverted_cdf"), abs=WIDTH * 1.01
        )
    assert sum(whole.to_json()["histogram"]["counts"]) == len(values)


@given(st.integers(3, 9), st.integers(3, 12), st.integers(0, 99))
def test_the_shift_is_how_far_the_mean_went_along_the_axes(prompts, width, seed):
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(prompts, width)) * np.linspace(3, 1, width)
    axes = main_axes(base)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-9)
    centred = base - base.mean(0)
    explained = np.square(centred @ axes.T).sum(0)
    assert explained[0] >= explained[1] >= 0
    assert explained[0] >= np.square(centred).sum(0).max() - 1e-9, "no entry alone varies more"
    gone = np.array([[2.0, -1.0]])
    now = base.mean(0) + gone[0] @ axes
    np.testing.assert_allclose(moved(axes[None], base.mean(0)[None], now[None]), gone, atol=1e-9)
    np.testing.assert_allclose(main_axes(base[::-1]), axes, atol=1e-6)
    assert shift(np.array([[3.0, 0.0], [3.0, 8.0]])) == 5.0


def test_prompts_that_do_not_differ_have_no_axes():
    assert not main_axes(np.full((1, 5), 0.3)).any()
    assert not main_axes(np.full((7, 5), 0.3, np.float32)).any()
    two = main_axes(np.array([[0.0, 1.0, 0.0], [0.0, 2.0, 0.0]]))
    np.testing.assert_allclose(two, [[0, 1, 0], [0, 0, 0]], atol=1e-12)
