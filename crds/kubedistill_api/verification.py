"""How responses are judged: `curation.verification` of a job, and the tests that come with a code question."""

from typing import Any, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from kubedistill_api.base import Model, Rule, later
from kubedistill_api.data import EndpointSource


class CodeTests(Model):
    """Tests of one code question: programs on standard input and output, or calls of one function."""

    inputs: list[Any] = Field(min_length=1)
    """One per test. Programs: the text on standard input. Functions: the list of positional arguments."""
    outputs: list[Any] = Field(min_length=1)
    """One per test. Programs: the text expected on standard output. Functions: the value expected, as JSON."""
    fn_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        alias="fn_name",
        validation_alias=AliasChoices("fn_name", "fnName"),
    )
    """The function to call, at module level or as a method of `class Solution`; none: run the program."""

    @model_validator(mode="after")
    def _tests_fit_their_kind(self) -> Self:
        if len(self.inputs) != len(self.outputs):
            raise ValueError(
                f"inputs has {len(self.inputs)} tests but outputs has {len(self.outputs)}: give one output per input"
            )
        for index, (given, expected) in enumerate(zip(self.inputs, self.outputs, strict=True)):
            if self.fn_name is None:
                for name, value in (("inputs", given), ("outputs", expected)):
                    if not isinstance(value, str):
                        raise ValueError(
                            f"{name}[{index}] is a {type(value).__name__}: without fn_name tests are strings"
                        )
            elif not isinstance(given, list):
                raise ValueError(
                    f"inputs[{index}] is a {type(given).__name__}: with fn_name every input is the list of arguments"
                )
        return self


class CodeLimits(Model):
    """What one run of a model-written program may use. A test that goes beyond a limit fails."""

    cpu_seconds: float = Field(default=6, gt=0, le=600)
    """CPU time of one test, in seconds, all threads together. It decides, since load does not change it."""
    memory_mib: int = Field(default=1024, ge=64, le=1 << 20)
    """Address space of one run, in MiB."""
    file_mib: int = Field(default=16, ge=1, le=1 << 16)
    """What a run may write into its own folder, in MiB. The folder is removed after the run."""
    processes: int = Field(default=32, ge=1, le=4096)
    """Threads of one run (to Linux a thread is a process). Starting another program is always refused."""
    output_mib: int = Field(default=8, ge=1, le=1024)
    """What a run may print or return, in MiB."""
    wall_seconds: float = Field(default=60, gt=0, le=3600)
    """Wall clock after which a run is killed, in seconds. Generous: it only ends what sleeps."""


class JudgeSpec(Model):
    """A judge model, asked only where the rules cannot decide (answers in words, golds no parser reads)."""

    endpoint: EndpointSource
    """Where the judge is served."""
    max_tokens: int = Field(default=2048, ge=1, le=65536)
    """Tokens the judge may spend on one verdict, thinking included."""
    attempts: int = Field(default=4, ge=1, le=20)
    """Requests per verdict before the stage ends and is started again later. Only overload, server errors and lost
    connections are tried again; a key, address or model that is wrong fails the job at once."""

    rules: ClassVar = (Rule("!has(self.endpoint.tokensPerMinute)", "endpoint.tokensPerMinute is not kept for a judge"),)

    @model_validator(mode="after")
    def _rate_limit_is_in_requests(self) -> Self:
        if self.endpoint.tokens_per_minute is not None:
            raise ValueError("endpoint.tokensPerMinute is not kept for a judge: use endpoint.requestsPerMinute")
        return self


class VerificationSpec(Model):
    """How correctness is decided, per domain."""

    math: Literal["rules", "off"] = "rules"
    """`rules`: normal form, exact rationals, math-verify. `off`: a control; every well-formed response is correct."""
    code: Literal["sandbox", "off"] = "sandbox"
    """`sandbox`: run the question's tests. `off`: a control; every well-formed response is correct."""
    choice: Literal["rules", "off"] = later("rules")
    """`rules`: the one letter that the answer settles on. `off`: a control; every well-formed response is correct."""
    judge: JudgeSpec | None = None
    """A judge model for math answers that the rules cannot decide; none: those count as not correct."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Verdicts worked on at a time, one core each; none: one per core that the pod may use."""
    timeout_seconds: float = Field(default=10, gt=0, le=600)
    """CPU seconds that comparing one pair of math answers may take."""
    code_limits: CodeLimits = CodeLimits()
    """What one run of a model-written program may use."""
