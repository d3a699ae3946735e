"""What an engine is asked and what it answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

FinishReason = Literal["stop", "length", "error"]

PROMPT_TOO_LONG = "prompt_too_long"
"""Error of a request whose prompt leaves no room for a response."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How one response is drawn."""

    temperature: float
    top_p: float
    top_k: int
    """0 keeps all tokens."""
    max_tokens: int
    seed: int
    """Of this response alone; 63 bits."""
    stop: tuple[str, ...] = ()
    """Texts that end a response. vLLM only."""


@dataclass(frozen=True, slots=True)
class Request:
    """One response to draw."""

    id: str
    """Unique in the run."""
    prompt: str
    """The user's turn as text; what an endpoint is sent."""
    prompt_token_ids: tuple[int, ...]
    """The same in the model's chat template; what vLLM is given. Empty for an endpoint."""
    draw: Draw
    score_from: int | None = None
    """Tells how likely the prompt's tokens from this place on are, each after those before it; at least 1, since
    nothing comes before the first. vLLM only."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One response. Of token ids and text at least one is there, but for an error."""

    id: str
    finish_reason: FinishReason
    token_ids: tuple[int, ...] = ()
    """With the end-of-sequence token, where the model ended by itself."""
    text: str | None = None
    """None where it has to be decoded from the token ids."""
    prompt_token_ids: tuple[int, ...] | None = None
    """As the server counted them, where it tells."""
    error: str | None = None
    latency_seconds: float = 0.0
    """From the submission to the end."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """0 with a text where an endpoint does not count."""
    logprobs: tuple[float, ...] = ()
    """Natural logarithms of the probabilities that `score_from` asked for."""
    likeliest: bool = True
    """Each of those tokens is the likeliest at its place, as greedy sampling would have it."""


@dataclass
class EngineStats:
    """What a pool of engines did since it was made."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Tokens of finished responses, and of aborted ones where the engine tells."""
    aborted: int = 0
    restarts: int = 0
    """Engines that died and were started again."""
    answered: set[int] = field(default_factory=set)
    """Numbers of the engines that responses came from."""
    retries: int = 0
    """Requests to an endpoint that were sent again."""
    details: dict[str, float] = field(default_factory=dict)


class Engine(Protocol):
    """Where requests go. Methods other than `start`, `poll` and `close` do not wait."""

    stats: EngineStats

    async def start(self) -> None:
        """Returns when requests are taken. Raises BadInput or TryAgain."""

    def room(self) -> int:
        """Requests that may be submitted now without waiting long."""

    def capacity(self) -> int:
        """Requests that may be under way at a time."""

    def submit(self, requests: Sequence[Request]) -> None:
        """Takes requests."""

    def abort(self, ids: Iterable[str]) -> None:
        """Gives requests up; no completion comes of them, or one that was under way already."""

    async def poll(self) -> list[Completion]:
        """Waits for completions. Raises BadInput or TryAgain when no more can come."""

    async def close(self) -> None:
        """Frees what the engine holds."""
