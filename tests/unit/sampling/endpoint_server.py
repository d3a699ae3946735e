"""A server that misbehaves on demand, and an endpoint that asks it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from kubedistill_api.data import EndpointSource
from kubedistill_runtime.engines.base import Completion, Draw, Request
from kubedistill_runtime.engines.endpoint import Endpoint

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(chat: Handler, models: Handler | None = None) -> AsyncIterator[str]:
    async def no_models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "owned_by": "someone"}]})

    app = web.Application()
    app.router.add_get("/v1/models", models or no_models)
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def request(name: str = "q", prompt: str = "2+2?") -> Request:
    return Request(name, prompt, (), Draw(0.6, 0.95, 0, 64, seed=11))


def answer(text: str = "4", **message: Any) -> dict[str, Any]:
    return {
        "choices": [{"message": {"content": text, **message}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }


async def ask(url: str, requests: list[Request], first_wait_s: float = 0.01, **fields: Any) -> list[Completion]:
    source = EndpointSource(url=url, model="m", **fields)
    async with Endpoint(source, first_wait_s=first_wait_s) as endpoint:
        endpoint.submit(requests)
        done: list[Completion] = []
        while len(done) < len(requests):
            done += await endpoint.poll()
        return done
