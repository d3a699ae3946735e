"""The input of one training run."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from kubedistill_api.training import TrainingSpec
from kubedistill_runtime.errors import BadInput

WITHOUT_EFFECT_ON_RESULT = {
    "checkpoint_every_steps",
    "keep_checkpoints",
    "micro_batch_tokens",
    "loss_chunk_tokens",
    "measure_corpus",
}
"""Fields of a TrainingSpec that may differ between a run and the run that takes it up again."""


class TrainJob(BaseModel):
    """What to train, on what, and where the results go. Written as JSON by the stage, read by every process."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    model_path: Path
    """Folder with a Hugging Face causal language model and its tokenizer."""
    corpus_path: Path
    """A `.parquet` or `.jsonl` file, or a folder of them. Columns: `prompt_token_ids`, `response_token_ids`, and
    optionally `question_id` and `sample_index`, which fix the order."""
    trust_remote_code: bool = False
    """Run the Python code in the model's folder."""
    output_dir: Path
    """Gets `metrics.jsonl`, `checkpoints/`, `model/` and `summary.json`; shared by all processes."""
    training: TrainingSpec = TrainingSpec()
    """Everything that shapes the result."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train. Default `auto`: on GPUs where there are any."""

    @property
    def metrics_path(self) -> Path:
        """One JSON row per optimiser step."""
        return self.output_dir / "metrics.jsonl"

    @property
    def checkpoint_dir(self) -> Path:
        """Committed checkpoints, `step-00000050` and so on."""
        return self.output_dir / "checkpoints"

    @property
    def model_dir(self) -> Path:
        """The exported student."""
        return self.output_dir / "model"

    @property
    def base_measures_path(self) -> Path:
        """What was measured before the first step; the first rank writes it once."""
        return self.output_dir / "base-measures.npz"

    @property
    def covariates_path(self) -> Path:
        """What the corpus is to the student, and how far training moved it; see `covariates`."""
        return self.output_dir / "covariates.json"

    @property
    def summary_path(self) -> Path:
        """Counts and totals; its presence says that the run is done."""
        return self.output_dir / "summary.json"

    def identity(self) -> dict[str, object]:
        """The part of the job that decides the result. A checkpoint is taken up only by a job of the same identity."""
        return {
            "model_path": str(self.model_path),
            "corpus_path": str(self.corpus_path),
            "training": self.training.model_dump(mode="json", exclude=WITHOUT_EFFECT_ON_RESULT),
        }


def read_job(path: Path) -> TrainJob:
    """Reads a TrainJob from a JSON file. Raises BadInput when it is missing or not one."""
    try:
        return TrainJob.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise BadInput(f"job file not found: {path}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadInput(f"{path}: {field}: {first['msg']}") from error
