"""The endpoint against a server that misbehaves on demand."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from kubedistill_api.data import EndpointSource, SecretKeyRef
from kubedistill_runtime.engines import endpoint as module
from kubedistill_runtime.engines.base import PROMPT_TOO_LONG, Completion
from kubedistill_runtime.engines.endpoint import Endpoint
from kubedistill_runtime.errors import BadInput, TryAgain
from tests.unit.sampling.endpoint_server import answer, ask, request, server


async def test_it_asks_with_the_prompt_and_reads_text_and_usage() -> None:
    bodies = []

    async def chat(incoming: web.Request) -> web.Response:
        bodies.append(await incoming.json())
        return web.json_response(answer())

    async with server(chat) as url:
        (completion,) = await ask(url, [request()])
    assert bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "2+2?"}],
            "temperature": 0.6,
            "top_p": 0.95,
            "max_tokens": 64,
            "seed": 11,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]
    assert (completion.text, completion.finish_reason, completion.token_ids) == ("4", "stop", ())
    assert (completion.prompt_tokens, completion.completion_tokens) == (3, 2)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_is_put_between_think_tags_whatever_its_field_is_called(name: str) -> None:
    async def chat(_: web.Request) -> web.Response:
        return web.json_response(answer("\n\n4", **{name: "two and two\n"}))

    async with server(chat) as url:
        (completion,) = await ask(url, [request()])
    assert completion.text == "<think>\ntwo and two\n</think>\n\n4"


async def test_an_opening_tag_that_the_template_swallowed_is_put_back() -> None:
    async def chat(_: web.Request) -> web.Response:
        return web.json_response(answer("two and two\n</think>\n4"))

    async with server(chat) as url:
        (completion,) = await ask(url, [request()])
    assert completion.text == "<think>\ntwo and two\n</think>\n4"


async def test_token_ids_are_asked_for_and_kept_where_the_server_is_vllm() -> None:
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "owned_by": "vllm"}]})

    async def chat(incoming: web.Request) -> web.Response:
        assert (await incoming.json())["return_token_ids"] is True
        full = answer()
        full["prompt_token_ids"] = [1, 2, 3]
        full["choices"][0]["token_ids"] = [7, 8]
        return web.json_response(full)

    async with server(chat, models) as url:
        (completion,) = await ask(url, [request()])
    assert completion.prompt_token_ids == (1, 2, 3)
    assert completion.token_ids == (7, 8)


async def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def chat(incoming: web.Request) -> web.Response:
        assert incoming.headers["Authorization"] == "Bearer s3cret"
        return web.json_response(answer())

    reference = SecretKeyRef(name="llm", key="LLM_KEY")
    async with server(chat) as url:
        monkeypatch.delenv("LLM_KEY", raising=False)
        with pytest.raises(BadInput, match=r"apiKeySecretRef.*LLM_KEY"):
            await ask(url, [request()], api_key_secret_ref=reference)
        monkeypatch.setenv("LLM_KEY", "s3cret")
        assert len(await ask(url, [request()], api_key_secret_ref=reference)) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_not_accepted_is_the_users_mistake(status: int) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with server(refuse, refuse) as url:
        with pytest.raises(BadInput, match=r"spec\.teacher\.endpoint\.apiKeySecretRef"):
            await ask(url, [request()])


async def test_a_model_that_is_not_there_is_the_users_mistake() -> None:
    async def missing(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "The model `m` does not exist."}}, status=404)

    async with server(missing) as url:
        with pytest.raises(BadInput, match=r"has no model 'm'.*does not exist"):
            await ask(url, [request()])


async def test_retry_after_is_kept() -> None:
    times: list[float] = []

    async def chat(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        if len(times) == 1:
            return web.Response(status=429, headers={"Retry-After": "0.4"})
        return web.json_response(answer())

    async with server(chat) as url:
        (completion,) = await ask(url, [request()], first_wait_s=30)
    assert completion.text == "4"
    assert times[1] - times[0] >= 0.4


async def test_a_date_in_retry_after_is_kept_too() -> None:
    times: list[float] = []

    async def chat(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        if len(times) == 1:
            until = datetime.now(UTC) + timedelta(seconds=2)
            return web.Response(status=503, headers={"Retry-After": format_datetime(until, usegmt=True)})
        return web.json_response(answer())

    async with server(chat) as url:
        (completion,) = await ask(url, [request()], first_wait_s=30)
    assert completion.text == "4"
    assert times[1] - times[0] >= 0.9  # a date has whole seconds


async def test_a_server_that_wants_hours_is_not_waited_for() -> None:
    async def chat(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "86400"}, text="quota used up")

    async with server(chat) as url:
        with pytest.raises(TryAgain, match="quota used up"):
            await ask(url, [request()])


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_server_errors_are_tried_again(status: int) -> None:
    calls = 0

    async def chat(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response(status=status) if calls < 4 else web.json_response(answer())

    async with server(chat) as url:
        (completion,) = await ask(url, [request()])
    assert completion.text == "4"
    assert calls == 4


async def test_a_connection_that_is_cut_is_tried_again() -> None:
    calls = 0

    async def chat(incoming: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls < 3:
            assert incoming.transport is not None
            incoming.transport.abort()
        return web.json_response(answer())

    async with server(chat) as url:
        (completion,) = await ask(url, [request()])
    assert completion.text == "4"
    assert calls == 3


async def test_an_answer_that_is_not_one_is_tried_again() -> None:
    calls = 0

    async def chat(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            return web.Response(text="<html>gateway</html>", content_type="text/html")
        if calls == 2:
            return web.json_response({"choices": []})
        return web.json_response(answer())

    async with server(chat) as url:
        (completion,) = await ask(url, [request()])
    assert completion.text == "4"


async def test_a_server_that_hangs_is_given_up_after_a_bounded_number_of_timeouts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0

    async def chat(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        await asyncio.sleep(60)
        return web.json_response(answer())

    async with server(chat) as url:
        with pytest.raises(TryAgain, match="nothing arrived for 1 s"):
            await ask(url, [request()], timeout_seconds=1)
    assert calls == module.TIMEOUTS


async def test_a_server_that_takes_connections_and_says_nothing_is_found_dead_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MODELS_S", 0.2)
    silent = await asyncio.start_server(lambda *_: asyncio.sleep(60), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/v1"
    try:
        with pytest.raises(TryAgain, match="does not answer: nothing arrived for"):
            await asyncio.wait_for(ask(url, [request()], timeout_seconds=3600), 30)
    finally:
        silent.close()


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def proxy(incoming: web.Request) -> web.Response:
        asked.append(f"{incoming.method} {incoming.raw_path if '://' in incoming.raw_path else incoming.url}")
        return web.json_response(answer() if incoming.method == "POST" else {"data": []})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    try:
        (completion,) = await ask("http://llm.invalid/v1", [request()])
    finally:
        await runner.cleanup()
    assert completion.text == "4"
    assert asked == ["GET http://llm.invalid/v1/models", "POST http://llm.invalid/v1/chat/completions"]


async def test_a_slow_answer_that_keeps_coming_is_no_timeout() -> None:
    async def chat(incoming: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(incoming)
        for _ in range(7):
            await response.write(b" ")
            await asyncio.sleep(0.5)
        await response.write(b'{"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]}')
        return response

    async with server(chat) as url:
        (completion,) = await ask(url, [request()], timeout_seconds=3)
    assert completion.text == "4"


async def test_an_endpoint_that_is_dead_says_so_and_what_to_expect() -> None:
    async def chat(_: web.Request) -> web.Response:
        return web.json_response(answer())

    async with server(chat) as url:
        pass
    with pytest.raises(TryAgain, match=r"does not answer.*what was drawn is kept"):
        await ask(url, [request()])


async def test_a_prompt_that_is_too_long_costs_only_itself() -> None:
    async def chat(incoming: web.Request) -> web.Response:
        body = await incoming.json()
        if len(body["messages"][0]["content"]) > 100:
            return web.json_response(
                {"error": {"message": "This model's maximum context length is 64 tokens."}}, status=400
            )
        return web.json_response(answer())

    async with server(chat) as url:
        done = await ask(url, [request("a"), request("long", "x" * 200), request("b")])
    assert {c.id: (c.finish_reason, c.error) for c in done} == {
        "a": ("stop", None),
        "b": ("stop", None),
        "long": ("error", PROMPT_TOO_LONG),
    }


async def test_a_server_that_refuses_everything_is_the_users_mistake() -> None:
    async def chat(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "top_k is not supported"}}, status=400)

    async with server(chat) as url:
        with pytest.raises(BadInput, match="refuses every request: top_k is not supported"):
            await ask(url, [request(str(number)) for number in range(module.REFUSALS)])


async def test_no_more_than_max_concurrent_are_under_way() -> None:
    now, most = 0, 0

    async def chat(_: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return web.json_response(answer())

    async with server(chat) as url:
        source = EndpointSource(url=url, model="m", max_concurrent=4)
        async with Endpoint(source) as endpoint:
            waiting = [request(str(number)) for number in range(30)]
            done: list[Completion] = []
            while len(done) < 30:
                batch, waiting = waiting[: endpoint.room()], waiting[endpoint.room() :]
                endpoint.submit(batch)
                done += await endpoint.poll()
    assert most == 4


async def test_requests_per_minute_are_kept() -> None:
    times: list[float] = []

    async def chat(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        return web.json_response(answer())

    async with server(chat) as url:
        await ask(url, [request(str(number)) for number in range(65)], requests_per_minute=600)
    # A burst of 50 at once, then ten a second.
    assert times[-1] - times[0] >= 1.4


async def test_what_is_given_up_is_not_answered() -> None:
    release = asyncio.Event()

    async def chat(_: web.Request) -> web.Response:
        await release.wait()
        return web.json_response(answer())

    async with server(chat) as url, Endpoint(EndpointSource(url=url, model="m")) as endpoint:
        endpoint.submit([request("a"), request("b")])
        await asyncio.sleep(0.05)
        endpoint.abort(["a", "unknown"])
        assert endpoint.room() == endpoint.capacity() - 1
        release.set()
        assert [c.id for c in await endpoint.poll()] == ["b"]
        assert endpoint.stats.aborted == 1
