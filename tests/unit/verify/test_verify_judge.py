"""The judge model, against a server on this machine."""

import asyncio
import time

import pytest
from aiohttp import web

from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.verify.judge import Judge, read_verdict
from kubedistill_runtime.verify.pool import VerifierPool
from kubedistill_runtime.verify.types import Item


class Server:
    """An endpoint that answers from a script of texts, statuses, or statuses with headers; the last one repeats."""

    def __init__(self):
        self.script = ['{"equivalent": true}']
        self.requests = []
        self.headers = []
        self.most = 0
        self._now = 0

    async def complete(self, request):
        self._now += 1
        self.most = max(self.most, self._now)
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        await asyncio.sleep(0.02)
        self._now -= 1
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, str):
            return web.json_response({"choices": [{"message": {"content": step}}]})
        status, headers = step if isinstance(step, tuple) else (step, {})
        return web.Response(status=status, headers=headers, text="busy")


@pytest.fixture
async def server():
    server = Server()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield server
    await runner.cleanup()


def spec(server, *, attempts=3, **endpoint):
    return VerificationSpec.model_validate(
        {"judge": {"endpoint": {"url": server.url, "model": "judge-1", **endpoint}, "attempts": attempts}}
    )


def words(gold, answer):
    return Item("q", "math", f"</think>\\boxed{{\\text{{{answer}}}}}", gold=gold)


async def test_answers_in_words_go_to_the_judge(server):
    async with VerifierPool(spec(server), 1) as pool:
        verdict = await pool.verify(words("no solution", "there is none"))

    assert (verdict.correct, verdict.method, verdict.error) == (True, "judge", None)
    request = server.requests[0]
    assert request["model"] == "judge-1"
    assert request["temperature"] == 0
    assert "no solution" in request["messages"][0]["content"]
    assert "there is none" in request["messages"][0]["content"]


async def test_what_the_rules_decide_never_reaches_the_judge(server):
    async with VerifierPool(spec(server), 1) as pool:
        verdicts = await pool.verify_many(
            [words("no solution", "No solution"), Item("q", "math", r"\boxed{2}", gold="1")]
        )

    assert [verdict.correct for verdict in verdicts] == [True, False]
    assert server.requests == []


async def test_a_verdict_is_kept_and_an_error_is_not(server):
    server.script = ["I cannot tell.", '{"equivalent": false}']
    async with VerifierPool(spec(server), 1) as pool:
        item = words("Evelyn", "Briana")
        first, second, third = [await pool.verify(item) for _ in range(3)]

    assert "no verdict" in first.error
    assert (second.correct, second.error) == (False, None)
    assert third.error is None
    assert len(server.requests) == 2


async def test_overload_is_waited_out_as_long_as_the_server_asks(server):
    server.script = [(429, {"Retry-After": "1"}), 503, "yes"]
    started = time.monotonic()
    async with VerifierPool(spec(server), 1) as pool:
        verdict = await pool.verify(words("Evelyn", "Eve"))

    assert verdict.correct
    assert len(server.requests) == 3
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize(
    ("script", "reason", "requests"),
    [
        ([(500, {}), 500], "HTTP 500: busy (2 attempts)", 2),
        ([401], "HTTP 401", 1),
        ([""], "no verdict", 1),
        (["It depends."], "no verdict", 1),
    ],
)
async def test_a_judge_that_fails_makes_no_answer_correct(server, script, reason, requests):
    server.script = script
    async with VerifierPool(spec(server, attempts=2), 1) as pool:
        verdict = await pool.verify(words("Evelyn", "Eve"))

    assert (verdict.correct, verdict.method) == (False, "judge")
    assert reason in verdict.error
    assert len(server.requests) == requests


async def test_an_endpoint_that_is_not_there_is_an_error(server):
    gone = spec(server, attempts=1).model_dump(by_alias=True)
    gone["judge"]["endpoint"]["url"] = "http://127.0.0.1:9/v1"
    async with VerifierPool(VerificationSpec.model_validate(gone), 1) as pool:
        verdict = await pool.verify(words("Evelyn", "Eve"))

    assert "connection" in verdict.error


async def test_the_key_comes_from_the_environment_and_goes_into_the_header(server, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "hunter2")
    reference = {"name": "judge", "key": "JUDGE_KEY"}
    async with VerifierPool(spec(server, apiKeySecretRef=reference), 1) as pool:
        await pool.verify(words("Evelyn", "Eve"))

    assert server.headers[0]["Authorization"] == "Bearer hunter2"


def test_a_missing_key_is_an_error_before_anything_is_judged(server, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    reference = {"name": "judge", "key": "JUDGE_KEY"}

    with pytest.raises(ValueError, match="JUDGE_KEY is not set"):
        VerifierPool(spec(server, apiKeySecretRef=reference), 1)


async def test_no_more_requests_fly_than_the_endpoint_allows(server):
    async with VerifierPool(spec(server, maxConcurrent=2), 1) as pool:
        await pool.verify_many([words("Evelyn", f"person {i}") for i in range(8)])

    assert len(server.requests) == 8
    assert server.most == 2


async def test_the_rate_limit_spaces_requests(server):
    judge = Judge(spec(server, requestsPerMinute=300).judge)
    started = time.monotonic()
    await asyncio.gather(*(judge.compare("Evelyn", f"person {i}") for i in range(4)))
    await judge.close()

    assert time.monotonic() - started >= 0.6


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"equivalent": true}', True),
        ('<think>{"equivalent": true}?</think>{"equivalent": false}', False),
        ('```json\n{"reason": "same", "equivalent": TRUE}\n```', True),
        ('First {"equivalent": true}, but no: {"equivalent": false}', False),
        ("Yes.", True),
        ("**No**", False),
        ("Yes and no", None),
        ("", None),
    ],
)
def test_a_judges_reply_is_read(text, verdict):
    assert read_verdict(text) is verdict
