"""Answers that arrive in pieces."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from kubedistill_api.data import EndpointSource
from kubedistill_runtime.engines.base import PROMPT_TOO_LONG
from kubedistill_runtime.engines.endpoint import ATTEMPTS, Endpoint
from kubedistill_runtime.engines.stream import DONE, Assembly, Broken, Events
from kubedistill_runtime.errors import TryAgain
from tests.unit.sampling.endpoint_server import ask, request, server

END = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


def piece(token_ids: list[int] | None = None, **delta: str) -> dict[str, Any]:
    return {"choices": [{"delta": delta, "finish_reason": None, "token_ids": token_ids}]}


def event(data: Any) -> bytes:
    return f"data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n".encode()


WHOLE = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}}], "prompt_token_ids": [1, 2, 3]},
    piece([5], reasoning="two "),
    piece([6, 7], reasoning="and two\u2028é"),
    piece([8], content="4"),
    {"choices": [{"delta": {}, "finish_reason": "stop", "token_ids": [2]}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}},
    DONE,
]


@asynccontextmanager
async def streaming(
    *scripts: list[Any], pause_s: float = 0.0, models: list[dict[str, Any]] | None = None
) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A server that plays a script for each request, the last one for ever: events, bytes, or the end of the line."""
    bodies: list[dict[str, Any]] = []

    async def chat(incoming: web.Request) -> web.StreamResponse:
        bodies.append(await incoming.json())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(incoming)
        for data in scripts[min(len(bodies), len(scripts)) - 1]:
            if data is None:
                assert incoming.transport
                incoming.transport.abort()
                return response
            await response.write(data if isinstance(data, bytes) else event(data))
            await asyncio.sleep(pause_s)
        return response

    async def tell(_: web.Request) -> web.Response:
        return web.json_response({"data": models or []})

    async with server(chat, tell) as url:
        yield url, bodies


def put_together(cut: Callable[[bytes], list[bytes]]) -> dict[str, Any]:
    events, assembly = Events(), Assembly()
    for data in cut(b": keep-alive\n\n" + b"".join(map(event, WHOLE))):
        for one in events.feed(data):
            assembly.add(one)
    return assembly.answer()


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_it_does_not_matter_where_the_bytes_are_cut(size: int) -> None:
    answer = put_together(lambda data: [data[at : at + size] for at in range(0, len(data), size)])
    assert answer["choices"][0]["message"]["content"] == "4"
    assert answer["choices"][0]["message"]["reasoning"] == "two and two\u2028é"
    assert list(answer["choices"][0]["token_ids"]) == [5, 6, 7, 8, 2]
    assert answer["prompt_token_ids"] == [1, 2, 3]


def test_lines_may_end_in_either_way() -> None:
    assert put_together(lambda data: [data.replace(b"\n", b"\r\n")]) == put_together(lambda data: [data])


@pytest.mark.parametrize("data", ["no JSON", "[]", '{"choices": 1}', '{"choices": [{"delta": {"content": 4}}]}'])
def test_what_is_no_piece_is_an_error(data: str) -> None:
    with pytest.raises(Broken, match="no piece of a chat completion"):
        Assembly().add(data)


async def test_a_streamed_answer_is_what_a_whole_one_would_be() -> None:
    async with streaming(WHOLE, models=[{"id": "m", "owned_by": "vllm"}]) as (url, bodies):
        (completion,) = await ask(url, [request()])
    assert bodies[0]["stream"] is True
    assert bodies[0]["return_token_ids"] is True
    assert completion.text == "<think>\ntwo and two\u2028é\n</think>\n\n4"
    assert (completion.finish_reason, completion.token_ids) == ("stop", (5, 6, 7, 8, 2))
    assert completion.prompt_token_ids == (1, 2, 3)
    assert (completion.prompt_tokens, completion.completion_tokens) == (3, 5)


async def test_a_stream_is_no_timeout_as_long_as_it_moves() -> None:
    script = [piece(content="4"), *[b": still here\n\n"] * 7, END]
    async with streaming(script, pause_s=0.5) as (url, bodies):
        (completion,) = await ask(url, [request()], timeout_seconds=3)
    assert (completion.text, len(bodies)) == ("4", 1)


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        ([piece(content="4")], "broke off in the middle"),
        ([piece(content="4"), None], "Error"),
        ([piece(content="4"), b"data: <html>\n\n"], "no piece of a chat completion"),
        ([piece(content="4"), {"error": {"message": "engine died", "code": 500}}, DONE], "engine died"),
        ([{"error": "overloaded"}], "overloaded"),
    ],
)
async def test_a_stream_that_breaks_is_asked_for_again(broken: list[Any], cause: str) -> None:
    async with streaming(broken, WHOLE) as (url, bodies):
        (completion,) = await ask(url, [request()])
    assert completion.text.endswith("4")
    assert len(bodies) == 2
    async with streaming(broken) as (url, bodies):
        with pytest.raises(TryAgain, match=cause):
            await ask(url, [request()])
    assert len(bodies) == ATTEMPTS


async def test_a_refusal_in_the_stream_is_one() -> None:
    refusal = {"error": {"message": "this is longer than the model's context length", "code": 400}}
    async with streaming([refusal, DONE]) as (url, bodies):
        (completion,) = await ask(url, [request()])
    assert (completion.finish_reason, completion.error) == ("error", PROMPT_TOO_LONG)
    assert len(bodies) == 1


async def test_a_server_that_does_not_stream_is_asked_for_the_whole() -> None:
    bodies = []

    async def chat(incoming: web.Request) -> web.Response:
        bodies.append(await incoming.json())
        if "stream" in bodies[-1]:
            return web.json_response({"error": {"message": "stream_options: unknown field"}}, status=400)
        return web.json_response({"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]})

    async with server(chat) as url, Endpoint(EndpointSource(url=url, model="m")) as endpoint:
        for name in ("a", "b"):
            endpoint.submit([request(name)])
            (completion,) = await endpoint.poll()
            assert (completion.id, completion.text) == (name, "4")
    assert ["stream" in body for body in bodies] == [True, False, False]


async def test_giving_up_closes_the_stream() -> None:
    """So that the server stops writing what nobody reads."""
    closed, going = asyncio.Event(), asyncio.Event()

    async def chat(incoming: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(incoming)
        try:
            while True:
                await response.write(event(piece(content="on ")))
                going.set()
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            closed.set()
            raise

    async with server(chat) as url:
        asking = asyncio.create_task(ask(url, [request()]))
        await going.wait()
        asking.cancel()
        await asyncio.wait_for(closed.wait(), 60)
