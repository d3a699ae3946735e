"""A student that comes with code of its own: trained and exported where the manifest trusts it, refused elsewhere."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.train.model import load_model, read_config
from tests.unit.train.tiny_runs import run, save_model, tiny_config

CODE = """
from transformers import Qwen3Config, Qwen3ForCausalLM


class OwnConfig(Qwen3Config):
    model_type = "own-code"


class OwnForCausalLM(Qwen3ForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(tmp_path):
    path = save_model(tiny_config(), tmp_path / "own-code")
    config = json.loads((path / "config.json").read_text())
    config |= {
        "model_type": "own-code",
        "architectures": ["OwnForCausalLM"],
        "auto_map": {"AutoConfig": "own_code.OwnConfig", "AutoModelForCausalLM": "own_code.OwnForCausalLM"},
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "own_code.py").write_text(CODE)
    return path


def test_code_that_is_not_trusted_is_not_run_and_the_error_names_the_field(own_code):
    (own_code / "own_code.py").write_text("raise SystemExit('run')")

    with pytest.raises(BadInput, match=r"spec\.student\.trustRemoteCode"):
        read_config(own_code)


def test_code_that_is_trusted_makes_the_model(own_code):
    config = read_config(own_code, trust_remote_code=True)

    assert type(load_model(own_code, config, torch.float32, trust_remote_code=True)).__name__ == "OwnForCausalLM"


@pytest.mark.parametrize("changes", [{}, {"lora": {"rank": 2}}], ids=["full", "lora"])
def test_a_run_exports_a_model_that_loads_with_its_own_code(make_job, own_code, changes):
    job = make_job(model=own_code, max_steps=2, **changes).model_copy(update={"trust_remote_code": True})
    run(job, 1 if changes else 2)
    shutil.rmtree(own_code)

    exported = AutoModelForCausalLM.from_pretrained(job.model_dir, trust_remote_code=True)
    assert type(exported).__name__ == "OwnForCausalLM"
    assert exported.config.model_type == "own-code"
