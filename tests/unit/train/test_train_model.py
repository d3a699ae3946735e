"""Model families: packed training gives what each trace gives by itself."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, GPTNeoXConfig, LlamaConfig, MambaConfig

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.train import attention
from kubedistill_runtime.train.attention import choose_kernel
from kubedistill_runtime.train.batch import collate
from kubedistill_runtime.train.dataset import load_dataset
from kubedistill_runtime.train.model import Objective, decoder_layers, load_model, read_config
from kubedistill_runtime.train.parallel import _prepare
from tests.unit.train.tiny_runs import EOS, VOCAB, rows, save_model, tiny_config, write_jsonl

CPU = torch.device("cpu")
small = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
FAMILIES = {
    "qwen3": tiny_config(),
    "qwen3-untied": tiny_config(tie_word_embeddings=False),
    "qwen3-sliding": tiny_config(use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "llama": LlamaConfig(**small, num_key_value_heads=2, attention_bias=True),
    "gpt-neox": GPTNeoXConfig(**small),
    "gpt2": GPT2Config(vocab_size=VOCAB, n_embd=64, n_layer=2, n_head=4, n_positions=128),
    "gemma2": Gemma2Config(**small, num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=16, sliding_window=8),
}


@torch.library.custom_op("kubedistill_tests::varlen", mutates_args=())
def varlen(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_starts: torch.Tensor, k_starts: torch.Tensor,
    q_longest: int, k_longest: int, is_causal: bool,
) -> torch.Tensor:  # fmt: skip
    """Stands in for the kernel of a GPU where only what is compiled around it counts."""
    return torch.zeros_like(q)


@varlen.register_fake
def _(q, *_):
    return torch.zeros_like(q)


@pytest.fixture
def examples(tmp_path):
    path = write_jsonl(tmp_path / "c.jsonl", rows(7))
    return load_dataset(path, context_length=64, vocab_size=VOCAB, eos_token_ids=frozenset({EOS})).examples


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_loss_and_gradients_equal_those_of_the_plain_model_trace_by_trace(family, examples, tmp_path):
    path = save_model(FAMILIES[family], tmp_path / family)
    plain = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager", dtype=torch.float32).eval()
    model = load_model(path, read_config(path), torch.float32).eval()
    objective = Objective(model, chunk=16)
    assert len(decoder_layers(model)) == 2
    total = 0.0
    for example in examples:
        ids = torch.tensor(example.token_ids.astype(int))[None]
        logits = plain(input_ids=ids).logits[0, example.prompt_tokens - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits.float(), ids[0, example.prompt_tokens :], reduction="sum")
        loss.backward()
        alone = objective(collate([example], "sdpa", CPU), 1.0)
        torch.testing.assert_close(alone, loss, rtol=1e-5, atol=1e-5)
        total += loss.item()
    packed = objective(collate(examples, "sdpa", CPU), 1.0)
    packed.backward()
    assert packed.item() == pytest.approx(total, rel=1e-5)
    wanted = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-3, atol=1e-4)


def test_padding_changes_nothing(examples, model_path):
    objective = Objective(load_model(model_path, read_config(model_path), torch.float32), chunk=16)
    batch = collate(examples, "sdpa", CPU, pad_to=2000)
    assert len(batch.input_ids) == 2000
    assert sum(batch.documents.lengths) == 2000
    plain = objective(collate(examples, "sdpa", CPU), 1.0)
    torch.testing.assert_close(objective(batch, 1.0), plain, rtol=1e-6, atol=1e-6)


def test_an_empty_micro_batch_has_zero_loss_and_gradients(model_path):
    objective = Objective(load_model(model_path, read_config(model_path), torch.float32), chunk=16)
    loss = objective(collate([], "sdpa", CPU), 1.0)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad.abs().max() == 0 for p in objective.parameters())


def test_a_model_that_mixes_tokens_outside_of_attention_is_refused(tmp_path):
    path = save_model(
        MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=1, state_size=4), tmp_path / "mamba"
    )
    with pytest.raises(BadInput, match="cannot be trained packed"):
        load_model(path, read_config(path), torch.float32)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no config\.json"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(BadInput, match="no-such-model"):
        read_config(tmp_path)


def test_gpu_kernels_are_refused_on_a_cpu():
    assert choose_kernel("auto", CPU) == "sdpa"
    with pytest.raises(BadInput, match="needs a GPU"):
        choose_kernel("flash", CPU)


@pytest.mark.parametrize("kernel_and_checkpointing", ["varlen none", "varlen full", "varlen selective", "flex none"])
def test_layers_are_compiled_once_for_batches_of_any_number_of_traces(
    examples, model_path, monkeypatch, graphs, kernel_and_checkpointing
):
    kernel, checkpointing = kernel_and_checkpointing.split()
    monkeypatch.setattr(attention, "varlen_attn", torch.ops.kubedistill_tests.varlen)
    monkeypatch.setattr(attention, "VARLEN_OPTIONS", frozenset())
    model = load_model(model_path, read_config(model_path), torch.float32)
    for layer in decoder_layers(model):
        _prepare(layer, checkpointing, True)
    objective = Objective(model, chunk=16)
    graphs_after = []
    for count in (2, 7, 3, 5, 1, 4, 6):
        batch = collate(examples[:count], kernel, CPU, pad_to=2000)
        with torch.set_grad_enabled(kernel != "flex"):  # which has no backward pass on a CPU
            objective.hidden(batch)
        graphs_after.append(len(graphs))
    assert graphs_after[0] == graphs_after[-1] > 0
    if kernel == "varlen":
        assert len(graphs) == 1, "one graph for all layers"
