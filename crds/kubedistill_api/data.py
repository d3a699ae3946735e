"""Where questions, benchmarks and models come from, and how they are asked."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel, to_snake
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from kubedistill_api.base import DnsLabel, Model, Rule, Uri, later
from kubedistill_api.benchmarks import PRESETS
from kubedistill_api.harness import HARNESS, HarnessTask

Domain = Literal["math", "choice", "code"]
Day = Annotated[str, Field(max_length=10, pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
"""A date as `2025-02-01`; dates in this form are in order where their texts are."""


class SecretKeyRef(Model):
    """One key of a Secret in the job's own namespace. On one machine, the environment variable `KEY` of that name."""

    name: DnsLabel
    """Name of the Secret."""
    key: str = Field(min_length=1, max_length=253)
    """Key within the Secret; also the name of the environment variable that `kubedistill run` reads instead."""


class FieldMap(Model):
    """Which column of a source holds what. Give only the ones that differ from the default names."""

    id: str | None = None
    """Column with a stable question id. Default: none; the id is the SHA-256 of domain, prompt and gold."""
    prompt: str = "question"
    """Column with the question's text."""
    answer: str = "answer"
    """Column with the gold answer (domain math); for domain choice with the right option: its letter, its number from
    0, or its text."""
    answer_after: Annotated[str, Field(min_length=1, max_length=64)] | None = later(None)
    """Take only what follows the last of these marks in `answer`: `####` where a worked solution ends in the answer."""
    tests: str = "tests"
    """Column with the tests (domain code): `{inputs, outputs, fn_name}` as an object or as JSON text."""
    date: str | None = later(None)
    """Column with the day on which a question was made public, which `window` goes by."""
    options: Annotated[list[str], Field(max_length=10)] = later([])
    """Columns with the options of domain choice: one that holds a list, or one for each option. They are put below
    the question as `A) ...`; where `answer` is one of these columns, in an order made from the question's text. Without
    it the options are part of the question already, and `answer` holds a letter."""


class Window(Model):
    """Days between which a question was made public, both included: what is older a model may have been trained on."""

    from_: Day | None = Field(default=None, alias="from")
    """First day. Default: no bound."""
    to: Day | None = None
    """Last day. Default: no bound."""

    rules: ClassVar = (
        Rule("has(self.from) || has(self.to)", "give from, to, or both"),
        Rule("!has(self.from) || !has(self.to) || self.from <= self.to", "from is later than to"),
    )

    @model_validator(mode="after")
    def _some_days(self) -> Self:
        for name, day in (("from", self.from_), ("to", self.to)):
            try:
                date.fromisoformat(day or "2000-01-01")
            except ValueError:
                raise ValueError(f"{name}: there is no day {day}") from None
        if self.from_ is None and self.to is None:
            raise ValueError("give from, to, or both")
        if self.from_ and self.to and self.from_ > self.to:
            raise ValueError(f"from ({self.from_}) is later than to ({self.to})")
        return self

    def __contains__(self, day: date) -> bool:
        text = day.isoformat()
        return (self.from_ or text) <= text <= (self.to or text)


class QuestionSource(Model):
    """One source of questions: a JSONL or Parquet file, or a dataset of the Hugging Face hub."""

    uri: Uri
    """`hf://org/dataset`, or a `.jsonl` or `.parquet` file under any supported scheme."""
    split: str = "train"
    """Split of a hub dataset. Ignored for files."""
    subset: str | None = None
    """Configuration name of a hub dataset."""
    revision: str | None = None
    """Commit or tag of a hub dataset, or of a file in one; pin it, so that the same manifest means the same
    questions."""
    domain: Domain = "math"
    """What the answers are checked by: `math` compares with a gold answer, `choice` with the letter of the
    right option (A to J), `code` runs tests."""
    fields: FieldMap = FieldMap()
    """Column names."""
    prompt_template: str = Field(default="{question}", max_length=8192)
    """Text of the user turn; `{question}` stands for the question. Applied before the model's chat template."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first so many rows."""
    token_secret_ref: SecretKeyRef | None = None
    """Hub token for gated or private datasets."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.promptTemplate) || self.promptTemplate.contains('{question}')",
            "promptTemplate must contain {question}",
        ),
    )

    @model_validator(mode="after")
    def _template_has_the_question(self) -> Self:
        if "{question}" not in self.prompt_template:
            raise ValueError("promptTemplate must contain {question}, for example '{question}\\nThink step by step.'")
        return self


_PRESET = "preset"
_OF_ROWS = ("subset", "split", "revision", "domain", "format", "fields", "window", "prompt_template")
"""Fields that say how rows become questions."""
_PRESET_HAS_FORMAT = (
    f"(has(self.preset) && self.preset in {[name for name, preset in PRESETS.items() if 'format' in preset.entry]})"
)
_HAS_FORMAT = f"has(self.format) || {_PRESET_HAS_FORMAT}"
_HARNESS_ALONE = "a harness task brings its own data, prompts and checks: remove the fields that say others"


class Benchmark(QuestionSource):
    """A set of questions to score models on; never trained on, and questions that overlap with it are dropped."""

    preset: Annotated[str, Field(json_schema_extra={"enum": list(PRESETS)})] | None = later(None)
    """A well-known benchmark (`kubedistill benchmarks` lists them). It stands for the fields of its entry, `name` and
    `uri` among them; a field given beside it wins, and of `fields` each column by itself."""
    name: DnsLabel
    """Name in the scores. Default: the preset's; required without one."""
    uri: Uri
    """`hf://org/dataset`, or a `.jsonl` or `.parquet` file under any supported scheme. Default: the preset's; required
    without one, but for a `harness` task: there it is a folder with YAML files of tasks of your own, and the task is
    one of them. What they name is read, and Python of theirs is run, where the stages run."""
    split: str = "test"
    """Split of a hub dataset. Ignored for files."""
    format: Literal["livecodebench"] | None = later(None)
    """Rows that columns alone do not describe. `livecodebench` is the form of `livecodebench/code_generation_lite`,
    of domain code: statement, starter code, date, and public and hidden tests. Default: rows as `fields` says."""
    window: Window | None = later(None)
    """Only questions that were made public in these days. Needs `fields.date`, or a `format` with a date."""
    harness: HarnessTask | None = later(None)
    """A task of the lm-evaluation-harness, which brings data, prompts and checks of its own; of the other fields only
    `name`, `uri`, `limit` (of each task) and `tokenSecretRef` go with it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.preset) || (has(self.name) && (has(self.uri) || has(self.harness)))",
            "give name and uri, a preset, or name and harness",
        ),
        Rule(
            f"!has(self.harness) || !({' || '.join(f'has(self.{to_camel(name)})' for name in (_PRESET, *_OF_ROWS))})",
            _HARNESS_ALONE,
        ),
        Rule(
            f"!({_HAS_FORMAT}) || (has(self.domain) ? self.domain == 'code' : {_PRESET_HAS_FORMAT})",
            "a format is of domain code",
        ),
        Rule(f"!({_HAS_FORMAT}) || !has(self.fields)", "a format says what the columns hold: remove fields"),
        Rule(
            f"!has(self.window) || {_HAS_FORMAT} || (has(self.fields) && has(self.fields.date))",
            "window needs fields.date, or a format with a date",
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _preset_is_written_out(cls, data: Any) -> Any:
        """What a preset stands for, so that everyone who reads an entry sees the same, and equal work is equal."""
        if not isinstance(data, dict):
            return data
        if data.get("harness") is not None:
            if data.get(_PRESET) is not None:
                raise ValueError(f"{_HARNESS_ALONE} (given: {_PRESET})")
            task = data["harness"]
            name = task.get("task") if isinstance(task, dict) else getattr(task, "task", None)
            return {"uri": f"{HARNESS}://{name}", **data}
        if not isinstance(data.get(_PRESET), str):
            return data
        name = data["preset"]
        if name not in PRESETS:
            raise ValueError(f"preset '{name}' is not known; known: {', '.join(PRESETS)}")
        given = {key: value for key, value in data.items() if key != "preset"}
        return _filled({"name": name, **PRESETS[name].entry}, given)

    @model_validator(mode="after")
    def _harness_stands_alone(self) -> Self:
        if self.harness is not None:
            fields = type(self).model_fields
            given = [to_camel(name) for name in _OF_ROWS if getattr(self, name) != fields[name].default]
            if given:
                raise ValueError(f"{_HARNESS_ALONE} (given: {', '.join(given)})")
        return self

    @model_validator(mode="after")
    def _format_says_the_columns(self) -> Self:
        if self.format and self.domain != "code":
            raise ValueError(f"format {self.format} needs domain code (got {self.domain})")
        if self.format and self.fields != FieldMap():
            raise ValueError(f"format {self.format} says what the columns hold; remove fields")
        if self.window and not self.format and not self.fields.date:
            raise ValueError("window needs fields.date, the column with the day of a question")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = super().__get_pydantic_json_schema__(core, handler)
        handler.resolve_ref_schema(schema).pop("required", None)
        return schema


def _filled(preset: Mapping[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The given fields with those of a preset that they leave out, in depth; names in camelCase or as in Python."""
    filled = dict(given)
    for key, value in preset.items():
        own = next((name for name in (key, to_snake(key)) if name in given), None)
        if own is None:
            filled[key] = value
        elif isinstance(value, Mapping) and isinstance(given[own], dict):
            filled[own] = _filled(value, given[own])
    return filled


class DecontaminationSpec(Model):
    """Removes training questions that share text with a benchmark."""

    ngram: int = Field(default=13, ge=1, le=64)
    """Words in a row that count as an overlap. A question shorter than this is dropped when it equals a benchmark's
    question, or is contained in one, as a run of words."""
    enabled: bool = True
    """False keeps overlapping questions; the overlap is still counted and reported."""


class ModelSource(Model):
    """A causal language model with its tokenizer in Hugging Face form."""

    uri: Uri
    """`hf://org/name`, or a folder with safetensors, config and tokenizer."""
    revision: str | None = None
    """Commit or tag on the hub; pin it, so that the same manifest means the same weights."""
    token_secret_ref: SecretKeyRef | None = None
    """Hub token for gated or private models."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Leave off unless the model needs it and you trust its owner."""


class EndpointSource(Model):
    """A model behind an OpenAI-compatible HTTP API."""

    url: str = Field(pattern=r"^https?://[^\s]+$", max_length=2048)
    """Base address up to and with the version, for example `http://llm.team-a:8000/v1`."""
    model: str = Field(min_length=1)
    """Name of the model as the server knows it."""
    api_key_secret_ref: SecretKeyRef | None = None
    """API key."""
    max_concurrent: int = Field(default=64, ge=1, le=10000)
    """Requests in flight at most."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Rate limit that the client keeps by itself."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Token rate limit (prompt and completion together) that the client keeps by itself."""
    timeout_seconds: int = Field(default=3600, ge=1)
    """Give up on a request when nothing arrived for so long. Responses are streamed, so this is the longest pause
    before and within one; of a server that cannot stream, a whole response must fit into it. A server that does not
    tell its models within a minute is taken for dead."""


class EngineSpec(Model):
    """How vLLM serves a model. The defaults suit one GPU; every field passes through to the engine."""

    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs that share each layer."""
    pipeline_parallel_size: int = Field(default=1, ge=1)
    """Groups of GPUs that hold consecutive layers."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of the weights while sampling; auto takes the model's own, and float32 on a CPU."""
    max_model_len: int | None = Field(default=None, ge=16)
    """Longest prompt plus response in tokens. Default: the model's own, or what the job can use at most."""
    max_num_seqs: int | None = Field(default=None, ge=1)
    """Sequences in one batch at most. Default: vLLM's own."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU's memory that the engine may use."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """Type of the KV cache; fp8 holds twice the tokens."""
    enforce_eager: bool = False
    """Do not capture CUDA graphs: starts faster, runs slower."""
    enable_prefix_caching: bool = True
    """Share the KV cache of equal prompts between the samples of a question."""


MAX_SEED = 2**53
"""Larger integers do not survive JSON readers that take every number for a double."""


class SamplingSpec(Model):
    """How many responses to draw for each question, and how."""

    samples: Annotated[int, Field(ge=1, le=1024)] = 8
    """Responses per question at most."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.6
    """Softmax temperature; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus sampling: the smallest set of tokens with this probability."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    max_tokens: Annotated[int, Field(ge=1, le=1048576)] = 16384
    """Longest response in tokens; a response that reaches it counts as truncated."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    """Every response has its own seed, made from this one, the question's id and the sample's number."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.temperature > 0.0 || self.samples == 1", "temperature 0 always gives the same response: samples: 1"),
    )

    @model_validator(mode="after")
    def _greedy_draws_once(self) -> Self:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(
                f"temperature 0 always gives the same response, so samples must be 1 (got {self.samples}); "
                "raise temperature or set samples: 1"
            )
        return self


class TeacherSampling(SamplingSpec):
    """Sampling of a teacher, which may stop early."""

    stop_after_verified: Annotated[int, Field(ge=1)] | None = None
    """Stop a question once so many of its responses are verified. Which responses count is decided in the order of
    their numbers, not of their arrival, so the corpus does not depend on timing and has no bias to short traces."""

    rules: ClassVar = (
        Rule(
            "!has(self.stopAfterVerified) || self.stopAfterVerified <= self.samples",
            "stopAfterVerified can never be reached: it is more than samples",
        ),
    )

    @model_validator(mode="after")
    def _stop_is_within_samples(self) -> Self:
        if self.stop_after_verified is not None and self.stop_after_verified > self.samples:
            raise ValueError(
                f"stopAfterVerified ({self.stop_after_verified}) can never be reached with samples: {self.samples}; "
                "lower stopAfterVerified or raise samples"
            )
        return self
