"""From a model's URI to its folder, and from a spec to engines."""

import json
from pathlib import Path

import pytest
from huggingface_hub import errors
from requests import Response

from kubedistill_api.data import EngineSpec, ModelSource, SecretKeyRef
from kubedistill_api.runtime import RoleSpec
from kubedistill_runtime.data.models import context_length, model_path
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.sampling.serving import Prompt, Wanted, engines, max_model_len


def test_an_embedded_model_is_found() -> None:
    path = model_path(ModelSource(uri="embedded://models/student"))
    assert (path / "config.json").is_file()
    assert context_length(path) == 512


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder_is_found_by_path_and_by_file_uri(tmp_path: Path, form: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert model_path(ModelSource(uri=form.format(tmp_path))) == tmp_path
    assert context_length(tmp_path) is None


def test_a_folder_on_a_claim_is_found_below_its_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEDISTILL_PVC_ROOT", str(tmp_path))
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / "models" / "m" / "config.json").write_text('{"text_config": {"max_position_embeddings": 77}}')
    path = model_path(ModelSource(uri="pvc://models/m"))
    assert context_length(path) == 77


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("nowhere/at/all", "is not there"),
        ("embedded://models/nobody", "embedded://models/nobody does not exist"),
        ("s3://bucket/model", "copy it there"),
    ],
)
def test_a_model_that_is_not_there_is_named(uri: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        model_path(ModelSource(uri=uri))
    assert uri in str(caught.value)


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no config\.json"):
        model_path(ModelSource(uri=str(tmp_path)))


def _http(kind: type[Exception], status: int) -> Exception:
    response = Response()
    response.status_code = status
    return kind("not for you", response=response)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("raised", "expected", "says"),
    [
        (lambda: _http(errors.RepositoryNotFoundError, 404), BadInput, "no such model"),
        (lambda: _http(errors.GatedRepoError, 403), BadInput, "access on request"),
        (lambda: _http(errors.RevisionNotFoundError, 404), BadInput, "model.revision v9"),
        (lambda: errors.LocalEntryNotFoundError("offline"), TryAgain, "cannot be reached"),
        (lambda: _http(errors.HfHubHTTPError, 503), TryAgain, "cannot be reached"),
        (lambda: ConnectionError("no route"), TryAgain, "cannot be reached"),
    ],
)
def test_what_the_hub_says_becomes_the_right_kind_of_failure(
    monkeypatch: pytest.MonkeyPatch, raised, expected: type[Exception], says: str
) -> None:
    def snapshot_download(*_: object, **__: object) -> str:
        raise raised()

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(expected, match=says):
        model_path(ModelSource(uri="hf://org/name", revision="v9"))


def test_the_hub_is_asked_with_revision_and_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def snapshot_download(repository: str, **arguments: object) -> str:
        asked.update(arguments, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    source = ModelSource(uri="hf://org/name", revision="abc", token_secret_ref=SecretKeyRef(name="hub", key="HUB"))
    monkeypatch.delenv("HUB", raising=False)
    with pytest.raises(BadInput, match=r"tokenSecretRef.*HUB"):
        model_path(source)
    monkeypatch.setenv("HUB", "hf_x")
    assert model_path(source) == tmp_path
    assert (asked["repository"], asked["revision"], asked["token"]) == ("org/name", "abc", "hf_x")
    assert "*.py" not in asked["allow_patterns"]  # type: ignore[operator]


def test_one_engine_per_pod_without_gpus() -> None:
    assert engines(EngineSpec(), RoleSpec(replicas=3)) == (3, 0)


def test_as_many_engines_as_fit_into_the_pods() -> None:
    assert engines(EngineSpec(tensor_parallel_size=2), RoleSpec(replicas=2, gpus_per_replica=8)) == (8, 2)


@pytest.mark.parametrize(("role", "says"), [(RoleSpec(), "have no GPUs"), (RoleSpec(gpus_per_replica=1), "has 1 GPUs")])
def test_an_engine_larger_than_a_pod_is_the_users_mistake(role: RoleSpec, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        engines(EngineSpec(tensor_parallel_size=2), role)


def test_the_context_is_what_the_longest_request_needs_and_the_model_allows() -> None:
    prompts = {"short": Prompt("", (1,) * 10), "long": Prompt("", (1,) * 90)}
    wanted = [Wanted(["short"], 500), Wanted(["long"], 100)]
    assert max_model_len(EngineSpec(), 4096, wanted, prompts) == 512
    assert max_model_len(EngineSpec(), 256, wanted, prompts) == 256
    assert max_model_len(EngineSpec(), None, wanted, prompts) == 512
    assert max_model_len(EngineSpec(max_model_len=300), 4096, wanted, prompts) == 300


def test_the_context_of_a_model_is_read_from_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 4096}))
    assert context_length(tmp_path) == 4096
