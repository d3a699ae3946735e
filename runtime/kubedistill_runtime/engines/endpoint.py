"""A model behind an OpenAI-compatible HTTP API.

Prompts go as text, so no token ids are known, unless the server is vLLM, which tells them when asked. Answers are
streamed: a reasoning teacher writes for minutes, and proxies cut connections on which nothing moves for one. Overload,
server errors and lost connections are tried again a bounded number of times; what the server refuses is not.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import tenacity

from kubedistill_api.data import EndpointSource
from kubedistill_runtime.engines.base import PROMPT_TOO_LONG, Completion, EngineStats, FinishReason, Request
from kubedistill_runtime.engines.rate import RateLimit
from kubedistill_runtime.engines.stream import REASONING, Assembly, Broken, Events
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.retry_after import retry_after

T = TypeVar("T")

ATTEMPTS = 7
"""Times a request is sent; with the waits between, an endpoint may be gone for about two minutes."""
TIMEOUTS = 2
"""Times a request may hang for `timeoutSeconds`."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
LONGEST_RETRY_AFTER_S = 600.0
"""A server that wants to be left alone for longer than this is not waited for."""
CONNECT_S = 30.0
MODELS_S = 60.0
"""Seconds for the list of models, which no generation has to be waited for: what is dead is found out at the start."""
REFUSALS = 8
"""Requests refused before any was answered that mean that all will be."""
CHARS_PER_TOKEN = 4
"""Guess for the token limit, until the server has said how many there were."""

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that may be another the next time."""
TOO_LONG = ("context length", "context_length", "max_model_len", "too many tokens", "maximum input length")
"""What servers say of a prompt that does not fit."""


class _Retry(Exception):
    """This attempt failed; another may not."""

    def __init__(self, cause: str, after: float | None = None, timeout: bool = False) -> None:
        super().__init__(cause)
        self.after = after
        self.timeout = timeout


class _Refused(Exception):
    """The server will not answer this request."""


class Endpoint:
    """Requests to one model; see `Engine`. `field` names the spec's field in errors."""

    def __init__(
        self,
        source: EndpointSource,
        field: str = "spec.teacher.endpoint",
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        self.stats = EngineStats()
        self._source = source
        self._field = field
        self._first_wait_s = first_wait_s
        self._session: aiohttp.ClientSession | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._events: asyncio.Queue[list[Completion] | Exception] = asyncio.Queue()
        self._requests = RateLimit(source.requests_per_minute) if source.requests_per_minute else None
        self._tokens = RateLimit(source.tokens_per_minute) if source.tokens_per_minute else None
        self._answered = self._refused = 0
        self._is_vllm = False
        self._streams = True

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Asks which models there are, which also shows whether the address and the key are right."""
        headers = {}
        if reference := self._source.api_key_secret_ref:
            key = os.environ.get(reference.key)
            if not key:
                raise BadInput(
                    f"{self._field}.apiKeySecretRef: the environment has no {reference.key}; set it to the API key"
                )
            headers["Authorization"] = f"Bearer {key}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=self._source.max_concurrent),
            trust_env=True,  # HTTP_PROXY, HTTPS_PROXY, NO_PROXY
        )
        try:
            models = await self._again(self._models)
        except (BadInput, TryAgain):
            await self.close()
            raise
        self._is_vllm = any(m.get("id") == self._source.model and m.get("owned_by") == "vllm" for m in models)

    def room(self) -> int:
        return self._source.max_concurrent - len(self._tasks)

    def capacity(self) -> int:
        return self._source.max_concurrent

    def submit(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self._tasks[request.id] = asyncio.create_task(self._complete(request))

    def abort(self, ids: Iterable[str]) -> None:
        for request_id in ids:
            task = self._tasks.pop(request_id, None)
            if task is not None:
                task.cancel()
                self.stats.aborted += 1

    async def poll(self) -> list[Completion]:
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _complete(self, request: Request) -> None:
        started = time.monotonic()
        try:
            completion = await self._again(lambda: self._chat(request, started))
            self._answered += 1
        except _Refused as error:
            self._refused += 1
            text = str(error)
            if not self._answered and self._refused >= REFUSALS:
                self._events.put_nowait(BadInput(f"{self._field}: the server refuses every request: {text}"))
                return
            too_long = any(sign in text.lower() for sign in TOO_LONG)
            completion = Completion(
                request.id, "error", text="", error=PROMPT_TOO_LONG if too_long else f"refused: {text}"[:500]
            )
        except Exception as error:
            self._events.put_nowait(error)
            return
        if self._tasks.pop(request.id, None) is not None:
            self.stats.prompt_tokens += completion.prompt_tokens
            self.stats.completion_tokens += completion.completion_tokens
            self._events.put_nowait([completion])

    async def _again(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Runs `attempt` until it succeeds, is refused, or has failed too often."""
        timeouts = 0

        async def once() -> T:
            return await attempt()

        def give_up(state: tenacity.RetryCallState) -> bool:
            nonlocal timeouts
            error = state.outcome.exception() if state.outcome else None
            assert isinstance(error, _Retry)
            timeouts += error.timeout
            too_long = error.after is not None and error.after > LONGEST_RETRY_AFTER_S
            done = state.attempt_number >= ATTEMPTS or timeouts >= TIMEOUTS or too_long
            self.stats.retries += not done
            return done

        exponential = tenacity.wait_exponential(self._first_wait_s, LONGEST_WAIT_S) + tenacity.wait_random(
            0, self._first_wait_s
        )

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            after = error.after if isinstance(error, _Retry) else None
            return float(exponential(state)) if after is None else after

        try:
            return await tenacity.AsyncRetrying(
                retry=tenacity.retry_if_exception_type(_Retry), stop=give_up, wait=wait, reraise=True
            )(once)
        except _Retry as error:
            raise TryAgain(
                f"{self._field}: {self._source.url} does not answer: {error} (after several attempts); what was drawn "
                "is kept, the next start goes on from there"
            ) from None

    async def _models(self) -> list[dict[str, Any]]:
        status, body = await self._call("GET", "models", None, min(MODELS_S, self._source.timeout_seconds))
        if status == 404 or not isinstance(body, dict):
            return []  # not every server lists its models
        models = body.get("data")
        return models if isinstance(models, list) else []

    async def _chat(self, request: Request, started: float) -> Completion:
        expected = self._expected_tokens(request)
        await self._pace(expected)
        draw = request.draw
        body: dict[str, Any] = {
            "model": self._source.model,
            "messages": [{"role": "user", "content": request.prompt}],
            "temperature": draw.temperature,
            "top_p": draw.top_p,
            "max_tokens": draw.max_tokens,
            "seed": draw.seed,
        }
        if draw.top_k:
            body["top_k"] = draw.top_k  # not OpenAI's, but what most servers call it
        if self._is_vllm:
            body["return_token_ids"] = True
        streamed = self._streams
        if streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        status, answer = await self._call("POST", "chat/completions", body, self._source.timeout_seconds)
        if streamed and status >= 400 and "stream" in _message(answer).lower():
            self._streams = False
            raise _Retry(f"the server does not stream: {_message(answer)}", after=0)
        if status == 404:
            raise BadInput(
                f"{self._field}: {self._source.url} has no model {self._source.model!r}, or is not the address up to "
                f"the version (…/v1): {_message(answer)}"
            )
        if status >= 400:
            raise _Refused(_message(answer))
        try:
            completion = _parse(request, answer, time.monotonic() - started)
        except (KeyError, TypeError, IndexError) as error:
            raise _Retry(f"an answer that is not a chat completion ({type(error).__name__}: {error})") from error
        if self._tokens and completion.prompt_tokens:
            self._tokens.settle(completion.prompt_tokens + completion.completion_tokens - expected)
        return completion

    async def _call(self, method: str, path: str, body: dict[str, Any] | None, silence_s: float) -> tuple[int, Any]:
        """Status and answer; given up when nothing arrived for `silence_s`."""
        assert self._session is not None
        # Reasoning takes long: what matters is whether bytes come, not how long it takes in all.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)
        url = f"{self._source.url.rstrip('/')}/{path}"
        try:
            async with self._session.request(method, url, json=body, timeout=timeout) as response:
                if response.status in (401, 403):
                    raise BadInput(
                        f"{self._field}.apiKeySecretRef: {self._source.url} does not accept the key "
                        f"(status {response.status}); set the Secret's key to a valid one"
                    )
                if response.status in AGAIN:
                    after = retry_after(response.headers.get("Retry-After"))
                    raise _Retry(f"status {response.status}: {(await response.text())[:200]}", after)
                if response.content_type == "text/event-stream":
                    return await _streamed(response)
                text = await response.text()
                try:
                    return response.status, await response.json(content_type=None)
                except ValueError:
                    if response.status >= 400:
                        return response.status, text
                    raise _Retry(f"an answer that is not JSON: {text[:200]}") from None
        except TimeoutError as error:
            hung = not isinstance(error, aiohttp.ConnectionTimeoutError)
            waited = silence_s if hung else CONNECT_S
            raise _Retry(f"nothing arrived for {waited:.0f} s", timeout=hung) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Retry(f"{type(error).__name__}: {error}") from error

    def _expected_tokens(self, request: Request) -> float:
        counted = self.stats.completion_tokens
        drawn = counted / self._answered if counted else request.draw.max_tokens
        return len(request.prompt) / CHARS_PER_TOKEN + drawn

    async def _pace(self, tokens: float) -> None:
        now = time.monotonic()
        waits = [limit.take(amount, now) for limit, amount in ((self._requests, 1), (self._tokens, tokens)) if limit]
        if waits and max(waits) > 0:
            await asyncio.sleep(max(waits))


async def _streamed(response: aiohttp.ClientResponse) -> tuple[int, Any]:
    """Status and answer, as of a response in one piece. A server that fails later says so in the stream."""
    events, assembly = Events(), Assembly()
    try:
        async for data in response.content.iter_any():
            for event in events.feed(data):
                assembly.add(event)
        if assembly.error is None:
            return response.status, assembly.answer()
    except Broken as error:
        raise _Retry(str(error)) from error
    told = assembly.error["error"]
    code = told.get("code") if isinstance(told, dict) else None
    if isinstance(code, int) and 400 <= code < 600 and code not in AGAIN:
        return code, assembly.error
    raise _Retry(f"the server failed in the middle of its answer: {_message(assembly.error)}")


def _message(answer: Any) -> str:
    if isinstance(answer, dict):
        error = answer.get("error", answer.get("message", answer))
        answer = error.get("message", error) if isinstance(error, dict) else error
    return str(answer)[:500]


def _parse(request: Request, answer: dict[str, Any], seconds: float) -> Completion:
    choice = answer["choices"][0]
    message = choice["message"]
    content = message.get("content") or ""
    reasoning = next(filter(None, map(message.get, REASONING)), "")
    if reasoning:
        text = f"<think>\n{reasoning.strip()}\n</think>\n\n{content.lstrip()}"
    elif "</think>" in content and "<think>" not in content:
        text = f"<think>\n{content}"  # the template had opened it
    else:
        text = content
    reason = choice.get("finish_reason")
    finish: FinishReason = reason if reason in ("stop", "length") else "error"
    usage = answer.get("usage") or {}
    prompt_ids = answer.get("prompt_token_ids")
    token_ids = tuple(choice.get("token_ids") or ())
    return Completion(
        id=request.id,
        finish_reason=finish,
        token_ids=token_ids,
        text=text,
        prompt_token_ids=tuple(prompt_ids) if prompt_ids else None,
        error=None if finish != "error" else f"finish_reason {reason}",
        latency_seconds=seconds,
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or len(token_ids)),
    )
