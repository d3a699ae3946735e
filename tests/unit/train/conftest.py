"""Fixtures of the trainer's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.train.tiny_runs import rows, save_model, tiny_config, write_jsonl


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tiny_config(), tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "corpus.jsonl", rows(20))


@pytest.fixture
def make_job(tmp_path: Path, model_path: Path, corpus: Path) -> Callable[..., Any]:
    """A job with its own output folder; keywords change the training, `model` and `data` the inputs."""
    from kubedistill_api.training import TrainingSpec
    from kubedistill_runtime.train.job import TrainJob

    def make(name: str = "out", model: Path = model_path, data: Path = corpus, **training: Any) -> TrainJob:
        fields = {
            "epochs": 2,
            "learning_rate": 1e-2,
            "global_batch_size": 6,
            "context_length": 64,
            "checkpoint_every_steps": 3,
        }
        return TrainJob(
            model_path=model,
            corpus_path=data,
            output_dir=tmp_path / name,
            training=TrainingSpec(**(fields | training)),
            device="cpu",
        )

    return make


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What torch.compile makes a graph of from here on; a graph is then run as it is."""
    import torch

    made: list[Any] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        made.append(graph)
        return graph.forward

    compiles = torch.compile
    monkeypatch.setattr("torch.compile", lambda function, **_: compiles(function, backend=backend))
    torch._dynamo.reset()
    return made


@pytest.fixture(scope="session")
def world() -> Iterator[Any]:
    """A world of one, in the process of the test."""
    from kubedistill_runtime.train.parallel import join_world, leave_world

    yield join_world("cpu", cores=1)
    leave_world()
