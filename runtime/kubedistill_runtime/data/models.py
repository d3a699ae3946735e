"""From a model's URI to a folder in Hugging Face form."""

import json
import os
from pathlib import Path

from kubedistill_api.data import ModelSource
from kubedistill_runtime.data.storage import local_path
from kubedistill_runtime.errors import BadInput, TryAgain

HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
"""What is fetched of a hub repository: weights as safetensors, configuration, tokenizer, template."""

LENGTH_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")
"""Names of the context length in configurations; the first that is there counts."""


def model_path(source: ModelSource) -> Path:
    """The folder of a model; one of the hub is downloaded to the hub's cache, where it is found the next time.

    Raises BadInput when there is no such model, and TryAgain when the hub cannot be reached.
    """
    scheme, separator, rest = source.uri.partition("://")
    if separator and scheme == "hf":
        return _from_hub(source, rest)
    path = local_path(source.uri)
    if path is None:
        raise BadInput(
            f"model.uri {source.uri}: models are read from hf://, file://, pvc://, embedded:// or a path; copy it there"
        )
    if not (path / "config.json").is_file():
        raise BadInput(
            f"model.uri {source.uri}: {path} {'has no config.json' if path.is_dir() else 'is not there'}; "
            "it must be a folder with config.json, safetensors and tokenizer"
        )
    return path


def context_length(path: Path) -> int | None:
    """Tokens that the model takes at most, prompt and response together; None where its configuration does not say."""
    config = json.loads((path / "config.json").read_bytes())
    for part in (config, config.get("text_config") or {}):
        for name in LENGTH_FIELDS:
            if isinstance(part.get(name), int):
                return int(part[name])
    return None


def _from_hub(source: ModelSource, repository: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    token: str | None = None
    if reference := source.token_secret_ref:
        token = os.environ.get(reference.key)
        if not token:
            raise BadInput(
                f"model.tokenSecretRef: the environment has no {reference.key}; set it to a token of the hub"
            )
    files = [*HUB_FILES, "*.py"] if source.trust_remote_code else HUB_FILES
    try:
        return Path(snapshot_download(repository, revision=source.revision, token=token, allow_patterns=files))
    except errors.GatedRepoError:
        raise BadInput(
            f"model.uri {source.uri}: its owner grants access on request; ask for it on the hub and give a token with "
            "model.tokenSecretRef"
        ) from None
    except errors.RevisionNotFoundError:
        raise BadInput(f"model.revision {source.revision}: {source.uri} has no such commit, tag or branch") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise BadInput(
            f"model.uri {source.uri}: the hub has no such model, or it is private (then give model.tokenSecretRef): "
            f"{_first_line(error)}"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise TryAgain(
            f"model.uri {source.uri}: the hub cannot be reached and the model is not in the cache: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
