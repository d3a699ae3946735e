"""The verifier pool: hangs, crashes, caching, and what it leaves behind."""

import asyncio
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import pytest_asyncio

from kubedistill_api.verification import CodeTests, VerificationSpec
from kubedistill_runtime.verify import crew as crew_module
from kubedistill_runtime.verify.child import Child
from kubedistill_runtime.verify.pool import VerifierPool, usable_cores
from kubedistill_runtime.verify.types import Item, VerifierUnavailable

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPEC = VerificationSpec(timeout_seconds=0.5)
NEEDS_ALGEBRA = (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}")


def math_item(gold: str | None, answer: str, key: str = "q") -> Item:
    return Item(key, "math", f"<think>hmm</think>So it is \\boxed{{{answer}}}.", gold=gold)


def code_item(source: str, *tests: tuple[str, str]) -> Item:
    inputs, outputs = zip(*tests, strict=True)
    return Item(
        "q",
        "code",
        f"<think>hmm</think>\n```python\n{source}\n```",
        tests=CodeTests(inputs=list(inputs), outputs=list(outputs)),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool():
    os.environ["HF_TOKEN"] = "hunter2"
    async with VerifierPool(SPEC, 1) as pool:
        yield pool
    del os.environ["HF_TOKEN"]


async def test_math_and_code_are_judged_by_one_pool(pool):
    right, wrong, algebra, program = await pool.verify_many(
        [
            math_item("3", "3.0"),
            math_item("3", "4"),
            math_item(*NEEDS_ALGEBRA),
            code_item("print(int(input()) * 2)", ("1", "2"), ("2", "4")),
        ]
    )

    assert (right.correct, right.method) == (True, "rational")
    assert (wrong.correct, wrong.method, wrong.error) == (False, "rational", None)
    assert (algebra.correct, algebra.method) == (True, "math-verify")
    assert (program.correct, program.method) == (True, "tests")
    assert 0 < program.seconds < 1
    assert pool.isolation["identity"]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (math_item(None, "1"), "gold is missing"),
        (math_item(" ", "1"), "gold is missing"),
        (Item("q", "math", r"<think>\boxed{1}", gold="1"), "truncated"),
        (Item("q", "math", "</think>no idea", gold="1"), "no final answer"),
        (Item("q", "code", "```python\nprint(1)\n```"), "tests are missing"),
        (Item("q", "code", "nothing", tests=CodeTests(inputs=[""], outputs=[""])), "no closed code block"),
        (Item("q", "poetry", "roses"), "is not math, choice or code"),
    ],
)
async def test_an_item_that_cannot_be_judged_is_not_correct_and_says_why(pool, item, reason):
    verdict = await pool.verify(item)

    assert (verdict.correct, verdict.method) == (False, "none")
    assert reason in verdict.error


async def test_how_the_answer_was_found_is_recorded(pool):
    verdict = await pool.verify(Item("q", "math", "</think>The answer is 7.", gold="7"))

    assert (verdict.correct, verdict.method) == (True, "string:phrase")


async def test_a_comparison_that_takes_for_ever_is_cut_by_cpu_time(pool):
    verdict = await pool.verify(math_item("1", r"\sum_{k=1}^{10^{9}}\frac{1}{k^k}"))

    assert not verdict.correct
    assert "timed out after" in verdict.error
    assert (await pool.verify(math_item("2", r"\sqrt{4}"))).correct


async def test_a_deaf_worker_is_killed_and_replaced(pool, children_of):
    await pool.verify(math_item("3", r"\sqrt{9}"))
    (worker,) = children_of(os.getpid(), "verify.worker\x00math")
    os.kill(worker, signal.SIGSTOP)

    verdict = await pool.verify(math_item("4", r"\sqrt{16}"))

    assert (verdict.correct, verdict.error) == (False, "timed out after 2 s")
    assert (await pool.verify(math_item("4", r"\sqrt{16}"))).correct
    assert worker not in children_of(os.getpid())


async def test_a_worker_that_is_killed_is_replaced_and_the_item_tried_again(pool, monkeypatch):
    ask, killed = Child.ask, []

    async def ask_and_kill_once(child, request, wall):
        if not killed:
            killed.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)
        return await ask(child, request, wall)

    monkeypatch.setattr(Child, "ask", ask_and_kill_once)

    assert (await pool.verify(code_item("print(1)", ("", "1")))).correct
    assert killed


async def test_an_idle_worker_that_was_killed_is_not_asked(pool, children_of):
    await pool.verify(code_item("print(1)", ("", "1")))
    for worker in children_of(os.getpid(), "verify.worker\x00code"):
        os.kill(worker, signal.SIGKILL)
    await asyncio.sleep(0.1)

    assert (await pool.verify(code_item("print(1)", ("", "1")))).correct


async def test_an_item_that_kills_every_worker_gets_an_error(pool, monkeypatch):
    ask, killed = Child.ask, []

    async def ask_and_kill(child, request, wall):
        killed.append(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        return await ask(child, request, wall)

    monkeypatch.setattr(Child, "ask", ask_and_kill)
    verdict = await pool.verify(code_item("print(1)", ("", "1")))
    monkeypatch.undo()

    assert not verdict.correct
    assert verdict.error == "the code worker was killed by SIGKILL"
    assert len(set(killed)) == 2
    assert (await pool.verify(code_item("print(1)", ("", "1")))).correct


async def test_a_cancelled_item_leaves_the_pool_in_order(pool):
    task = asyncio.create_task(pool.verify(code_item("import time\ntime.sleep(30)", ("", ""))))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    verdicts = await pool.verify_many([code_item("print(1)", ("", "1")), code_item("print(2)", ("", "1"))])

    assert [verdict.correct for verdict in verdicts] == [True, False]


async def test_equal_pairs_are_decided_once_even_at_the_same_time(pool, monkeypatch):
    asked = []
    ask = pool._crew.ask

    async def counting(kind, request, wall):
        asked.append(request["answer"])
        return await ask(kind, request, wall)

    monkeypatch.setattr(pool._crew, "ask", counting)
    item = math_item(r"\sqrt{50}", r"5\sqrt{2}")

    first = await pool.verify_many([item] * 16)
    second = await pool.verify_many([item] * 16)

    assert all(verdict.correct for verdict in first + second)
    assert asked == [r"5\sqrt{2}"]


async def test_workers_are_replaced_after_their_share(pool, children_of, monkeypatch):
    monkeypatch.setattr(crew_module, "MAX_SERVED", 1)
    seen = []
    for _ in range(3):
        assert (await pool.verify(code_item("print(1)", ("", "1")))).correct
        await until(lambda: not children_of(os.getpid(), "verify.worker\x00code"))
        seen.append(pool._crew._started)

    assert seen == [seen[0], seen[0] + 1, seen[0] + 2]


async def test_secrets_do_not_reach_the_workers(pool, children_of):
    await pool.verify(code_item("print(1)", ("", "1")))
    workers = children_of(os.getpid(), "verify.worker")

    assert len(workers) == 2
    assert not any(b"hunter2" in _proc(worker, "environ") for worker in workers)


async def test_thousands_of_integer_answers_keep_their_order(pool):
    padding = "<think>" + "let me see " * 500 + "</think>"
    items = [Item(str(i), "math", f"{padding}It is \\boxed{{{i}}}.", gold=str(i - i % 2)) for i in range(5000)]

    verdicts = await pool.verify_many(items)

    assert [verdict.correct for verdict in verdicts] == [i % 2 == 0 for i in range(5000)]


async def test_verdicts_of_cheap_items_do_not_wait_for_a_busy_worker(pool):
    slow = asyncio.create_task(pool.verify(code_item("import time\ntime.sleep(2)\nprint(1)", ("", "1"))))
    await asyncio.sleep(0.2)

    assert (await pool.verify(math_item("12", "12"))).correct
    assert not slow.done()
    assert (await slow).correct


async def test_off_takes_every_well_formed_response(tmp_path):
    async with VerifierPool(VerificationSpec(math="off", code="off"), 1) as pool:
        wrong, program, truncated = await pool.verify_many(
            [math_item("1", "2"), Item("q", "code", "<think>a</think>no code"), Item("q", "math", "<think>a", gold="1")]
        )

    assert (wrong.correct, wrong.method) == (True, "off")
    assert (program.correct, program.method) == (True, "off")
    assert (truncated.correct, truncated.method) == (False, "off")
    assert "truncated" in truncated.error


@pytest.mark.parametrize("moment", ["starting", "a sandbox is there", "a program runs"])
async def test_close_leaves_no_process_and_no_file(children_of, monkeypatch, tmp_path, moment):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(children_of(os.getpid(), "verify.worker"))
    pool = VerifierPool(SPEC, 2)

    def workers(kind=""):
        return set(children_of(os.getpid(), f"verify.worker\x00{kind}")) - before

    def reached():
        if moment == "starting":
            return len(workers()) == 2
        if moment == "a sandbox is there":  # of the first of its programs, which tries the sandbox itself
            return any(children_of(worker) for worker in workers("code"))
        return pool.isolation and any(children_of(worker) for worker in workers("code"))

    busy = asyncio.create_task(
        pool.verify_many([math_item(*NEEDS_ALGEBRA), code_item("import time\ntime.sleep(60)", ("", ""))])
    )
    await until(reached, pause=0.01)
    at_work = workers()

    await pool.close()

    assert not workers()
    assert not [pid for pid in at_work if _has_an_entry(pid)], "ended, but not waited for"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="pool is closed"):
        await busy
    await pool.close()


PARENT = """
import asyncio, sys, time
from kubedistill_api.verification import CodeTests, VerificationSpec
from kubedistill_runtime.verify.pool import VerifierPool
from kubedistill_runtime.verify.types import Item

async def main():
    pool = VerifierPool(VerificationSpec(), 2)
    source = "```python\\nimport time\\ntime.sleep(300)\\n```"
    await asyncio.gather(
        pool.verify(Item("q", "math", r"\\boxed{\\sqrt{8}}", gold=r"2\\sqrt{2}")),
        pool.verify(Item("q", "code", source, tests=CodeTests(inputs=[""], outputs=[""]))),
    )

asyncio.run(main())
"""


async def test_children_die_with_a_parent_that_is_killed(children_of, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, env=environment)

    def runs():
        return [run for worker in children_of(parent.pid, "verify.worker\x00code") for run in children_of(worker)]

    try:
        await until(runs)
        family = [*children_of(parent.pid, "verify.worker"), *runs()]
    finally:
        parent.kill()
        await parent.wait()

    await until(lambda: not any(_lives(pid) for pid in family))


async def test_a_pool_works_in_the_event_loop_of_another_thread():
    verdicts = []

    def work():
        async def judge():
            async with VerifierPool(SPEC, 1) as pool:
                verdicts.extend(await pool.verify_many([math_item("1", "1.0"), code_item("print(1)", ("", "1"))]))

        asyncio.run(judge())

    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.to_thread(thread.join)

    assert [verdict.correct for verdict in verdicts] == [True, True]


async def test_without_isolation_no_code_is_run_and_the_reason_is_raised(monkeypatch, tmp_path):
    # A worker that finds a processor it has no filter for.
    (tmp_path / "sitecustomize.py").write_text("import platform\nplatform.machine = lambda: 'riscv64'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with VerifierPool(SPEC, 1) as pool:
        with pytest.raises(VerifierUnavailable, match="x86-64 or arm64"):
            await pool.verify(code_item("print(1)", ("", "1")))


async def test_a_pool_uses_no_more_cores_than_there_are():
    assert 1 <= usable_cores() <= os.cpu_count()


async def until(condition, seconds=30, pause=0.05):
    """Wait until a condition holds, asking after each pause; an assertion fails when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(pause)


def _proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def _has_an_entry(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _lives(pid: int) -> bool:
    try:
        return _proc(pid, "stat").rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


async def test_the_time_of_a_verdict_is_that_of_judging_and_not_of_waiting(monkeypatch):
    async with VerifierPool(SPEC, 1) as pool:

        async def ask(kind, request, wall_seconds):
            await asyncio.sleep(0.01)  # in a queue
            return {"equal": True, "method": "math-verify", "error": None, "seconds": 1000.0}

        monkeypatch.setattr(pool._crew, "ask", ask)
        item = math_item(*NEEDS_ALGEBRA)
        first, shared = await pool.verify_many([item, item])
        found = await pool.verify(item)

    assert first.seconds >= 1000.0
    assert max(shared.seconds, found.seconds) < 1000.0, "who shares a verdict, or finds it made, did not work for it"


async def test_a_worker_tells_how_long_it_was_at_work(pool, monkeypatch):
    ask = pool._crew.ask

    async def ask_and_wait(*arguments):
        reply = await ask(*arguments)
        await asyncio.sleep(1.5)
        return reply

    monkeypatch.setattr(pool._crew, "ask", ask_and_wait)
    verdict = await pool.verify(math_item(r"\sqrt{15}", r"\sqrt{3}\sqrt{5}"))

    assert verdict.correct
    assert 0 < verdict.seconds < 1.5
