"""The judge model, against a server on this machine."""

import asyncio
import json
import time

import pytest
from aiohttp import web

from kubedistill_api.verification import VerificationSpec
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.verify.judge import REFUSALS, Judge, read_verdict
from kubedistill_runtime.verify.pool import VerifierPool
from kubedistill_runtime.verify.rows import verify_rows
from kubedistill_runtime.verify.types import Item


class Server:
    """An endpoint that answers from a script of texts, statuses, or statuses with headers; the last one repeats."""

    url: str
    """Set once it listens."""

    def __init__(self):
        self.script = ['{"equivalent": true}']
        self.requests = []
        self.headers = []
        self.most = 0
        self._now = 0
        self.models = 404

    async def list_models(self, request):
        return web.Response(status=self.models, text="models")

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
    app.router.add_get("/v1/models", server.list_models)
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
        ([400], "HTTP 400", 1),
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


@pytest.mark.parametrize(
    ("script", "requests"), [([(500, {}), 429], 2), ([503], 2), ([529], 2), ([(200, {})], 2)], ids=str
)
async def test_a_judge_that_is_away_gives_no_verdict_and_is_tried_again_later(server, script, requests):
    server.script = script
    async with VerifierPool(spec(server, attempts=2), 1) as pool:
        with pytest.raises(TryAgain, match=r"judge\.endpoint: http.*does not answer: .*busy.*2 attempts"):
            await pool.verify(words("Evelyn", "Eve"))
        server.script = ["yes"]
        assert (await pool.verify(words("Evelyn", "Eve"))).correct

    assert len(server.requests) == requests + 1


@pytest.mark.parametrize(
    ("status", "field"), [(401, "apiKeySecretRef"), (403, "apiKeySecretRef"), (404, "has no model 'judge-1'")]
)
async def test_a_wrong_key_or_model_is_the_users_mistake_and_no_verdict(server, status, field):
    server.script = [status]
    async with VerifierPool(spec(server), 1) as pool:
        with pytest.raises(BadInput, match=field):
            await pool.verify(words("Evelyn", "Eve"))

    assert len(server.requests) == 1


async def test_a_judge_that_refuses_everything_is_the_users_mistake(server):
    server.script = [400]
    async with VerifierPool(spec(server), 1) as pool:
        with pytest.raises(BadInput, match="refuses every request: HTTP 400"):
            await pool.verify_many([words("Evelyn", f"person {i}") for i in range(REFUSALS)])


async def test_a_key_that_is_not_accepted_is_found_before_anything_is_judged(server):
    server.models = 401
    with pytest.raises(BadInput, match="does not accept the key"):
        async with VerifierPool(spec(server), 1):
            pass

    assert server.requests == []


async def test_an_endpoint_that_is_not_there_may_come_back(server):
    gone = spec(server, attempts=1).model_dump(by_alias=True)
    gone["judge"]["endpoint"]["url"] = "http://127.0.0.1:9/v1"
    async with VerifierPool(VerificationSpec.model_validate(gone), 1) as pool:
        with pytest.raises(TryAgain, match="does not answer: connection"):
            await pool.verify(words("Evelyn", "Eve"))


async def test_rows_are_not_written_with_verdicts_that_nobody_gave(server, tmp_path):
    server.script = [503]
    rows = [{"id": i, "domain": "math", "response": f"\\boxed{{person {i}}}", "gold": "Evelyn"} for i in range(5)]
    source, output = tmp_path / "rows.jsonl", tmp_path / "verdicts.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(TryAgain):
        await asyncio.to_thread(verify_rows, source, output, spec(server, attempts=1), 1)

    assert list(tmp_path.iterdir()) == [source]


async def test_the_time_of_a_verdict_is_the_judges_without_the_queue_for_it(server):
    async with VerifierPool(spec(server, maxConcurrent=1), 1) as pool:
        started = time.perf_counter()
        verdicts = await pool.verify_many([words("Evelyn", f"person {i}") for i in range(6)])
        elapsed = time.perf_counter() - started

    spent = [verdict.seconds for verdict in verdicts]
    assert min(spent) >= 0.02, "of each request"
    assert sum(spent) <= elapsed, "one at a time, so the queue would be counted several times"


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
