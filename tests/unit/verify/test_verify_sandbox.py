"""Attacks on the sandbox, through a real worker, and what honest programs may do."""

import os
import socket

import pytest
import pytest_asyncio

from kubedistill_runtime.verify.crew import Crew

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = {
    "cpu_seconds": 1.0,
    "memory_mib": 512,
    "file_mib": 4,
    "processes": 4,
    "output_mib": 1,
    "wall_seconds": 20.0,
}
SECRET = "KUBEDISTILL_TEST_SECRET"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crew():
    os.environ[SECRET] = "hunter2"
    crew = Crew(1, 1.0)
    yield crew
    await crew.close()
    del os.environ[SECRET]


@pytest.fixture
def run(crew):
    """Runs one program: stdin `given`, expected stdout `expected`; or calls fn_name with the arguments `given`."""

    async def run(source, given="", expected="ok", *, fn_name=None, language="python", **limits):
        request = {
            "language": language,
            "source": source,
            "inputs": [given],
            "outputs": [expected],
            "fn_name": fn_name,
            "limits": LIMITS | limits,
        }
        return await crew.ask("code", request, 60)

    return run


async def test_an_isolation_is_in_force_and_recorded(run, crew):
    assert (await run("print('ok')"))["correct"]

    about = crew.about["code"]
    assert about["identity"] in ("own-user", "no-capabilities", "same-user")
    assert about["files"] or not about["landlock"]


# honest programs


async def test_a_right_program_passes_and_its_cpu_time_is_reported(run):
    result = await run("a, b = map(int, input().split())\nprint(a + b)", "1 2", "3")

    assert result["correct"]
    assert result["error"] is None
    assert 0 < result["seconds"] < 1


async def test_the_first_failing_test_stops_and_is_named(crew):
    request = {
        "language": "python",
        "source": "print(int(input()) // 2)",
        "inputs": ["2", "3", "4"],
        "outputs": ["1", "9", "never looked at"],
        "fn_name": None,
        "limits": LIMITS,
    }

    assert (await crew.ask("code", request, 60))["error"] == "test 2 of 3: wrong output"


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nprint(sys.stdin.read())",
        "print(open(0).read())",
        "print(open('/dev/stdin').read())",
        "import os\nprint(os.read(0, os.fstat(0).st_size).decode())",
        "import sys\nprint(input())\nsys.exit(0)",
        "if __name__ == '__main__':\n    print(input())",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    b: str\nprint(A(input()).b)",
        "import threading\nt = threading.Thread(target=lambda: print(input()))\nt.start()\nt.join()",
        "open('note', 'w').write(input())\nprint(open('note').read())",
        "import tempfile\nf = tempfile.TemporaryFile('w+')\nf.write(input())\nf.seek(0)\nprint(f.read())",
        "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return n and f(n - 1)\nf(50000)\nprint(input())",
        "import os, signal\nsignal.signal(10, lambda *_: print(input()))\nos.kill(os.getpid(), 10)",
        "import collections, heapq, math, random, decimal, fractions, json, re\nprint(input())",
    ],
)
async def test_what_honest_programs_do_is_allowed(run, source):
    result = await run(source, "ok", "ok")

    assert result["correct"], result["error"]


@pytest.mark.parametrize(
    ("source", "arguments", "expected"),
    [
        ("def f(a, b):\n    return a + b", [1, 2], 3),
        ("class Solution:\n    def f(self, a: List[int]) -> List[int]:\n        return sorted(a)", [[2, 1]], [1, 2]),
        ("class Solution:\n    def f(self, a: 'Optional[int]' = None):\n        return a", [], None),
        ("def f(a):\n    return tuple(a)", [[1, 2]], [1, 2]),
        ("def f(n):\n    return Counter(n)['a'] + pow(2, 5, 7)", ["banana"], 7),
        ("def f(n):\n    return 0 if n == 0 else 1 + f(n - 1)", [20000], 20000),
        ("def f(n):\n    print('noise on standard output')\n    return n", [1], 1),
        ("def f(n):\n    return deque([n])", [1], [1]),
        ("def f():\n    return 1\nif __name__ == '__main__':\n    raise SystemExit(1)", [], 1),
    ],
)
async def test_functions_are_called_and_their_values_compared(run, source, arguments, expected):
    result = await run(source, arguments, expected, fn_name="f")

    assert result["correct"], result["error"]


# resources


async def test_an_endless_loop_is_stopped_by_cpu_time(run):
    result = await run("while True: pass")

    assert result["error"] == "test 1 of 1: CPU time: more than 1 s"


async def test_a_loop_in_a_thread_counts_as_well(run):
    source = "import threading\nt = threading.Thread(target=lambda: [None for _ in iter(int, 1)])\nt.start()\nt.join()"

    assert "CPU time" in (await run(source))["error"] or "MemoryError" in (await run(source))["error"]


async def test_catching_the_signal_does_not_buy_time(run):
    source = """
import signal, sys, time
signal.signal(signal.SIGXCPU, lambda *_: (print("ok"), sys.exit(0)))
while True: pass
"""
    assert "CPU time" in (await run(source))["error"]


async def test_the_cpu_limit_is_decided_by_what_was_used_and_not_by_the_signal_alone(run):
    source = "import time\nwhile time.process_time() < 0.4: pass\nprint('ok')"

    assert (await run(source))["correct"]
    assert (await run(source, cpu_seconds=0.2))["error"] == "test 1 of 1: CPU time: more than 0.2 s"


async def test_sleeping_is_ended_by_the_wall_clock(run):
    result = await run("import time\ntime.sleep(1000)", wall_seconds=0.5)

    assert result["error"] == "test 1 of 1: wall clock: more than 0.5 s"


async def test_sleeping_with_closed_output_is_ended_as_well(run):
    result = await run("import os, time\nos.close(1)\nos.close(2)\ntime.sleep(1000)", wall_seconds=0.5)

    assert "wall clock" in result["error"]


async def test_memory_is_limited(run):
    assert "MemoryError" in (await run("x = bytearray(1 << 30)\nprint('ok')"))["error"]


async def test_endless_recursion_fails_and_harms_nobody(run):
    assert "RecursionError" in (await run("def f(): f()\nf()"))["error"]
    assert not (await run("import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()"))["correct"]


async def test_endless_output_is_cut(run):
    assert (await run("while True: print('x' * 1000)"))["error"] == "test 1 of 1: output: more than 1 MiB"


async def test_endless_errors_are_cut(run):
    source = "import sys\nwhile True: print('x' * 1000, file=sys.stderr)"

    assert "output: more than" in (await run(source))["error"]


async def test_standard_input_ends(run):
    assert (await run("import sys\nfor line in sys.stdin: pass\nprint('ok')", "1\n2\n"))["correct"]
    assert "EOFError" in (await run("while True: input()", "1\n2\n"))["error"]


async def test_threads_are_counted(run):
    source = """
import threading, time
threading.stack_size(65536)
for _ in range(20): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
time.sleep(60)
"""
    error = (await run(source))["error"]

    assert "threads: more than 4" in error or "can't start new thread" in error


async def test_one_big_file_is_refused(run):
    error = (await run("open('big', 'wb').write(b'x' * (8 << 20))\nprint('ok')"))["error"]

    assert "File too large" in error or "files: more than 4 MiB" in error


async def test_many_files_are_counted_together(run):
    source = """
import time
for i in range(16): open(f"part{i}", "wb").write(b"x" * (1 << 20))
time.sleep(60)
"""
    assert (await run(source))["error"] == "test 1 of 1: files: more than 4 MiB"


async def test_folders_nested_without_end_are_stopped_and_removed(run):
    source = "import os\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')"

    assert not (await run(source))["correct"]
    assert (await run("import os\nprint(os.listdir('.') or 'ok')"))["correct"]


async def test_files_of_one_run_are_gone_in_the_next(run):
    await run("import os\nopen('left', 'w').write('1')\nos.mkdir('locked')\nos.chmod('locked', 0)\nos.chmod('.', 0)")

    assert (await run("import os\nprint(os.listdir('.') or 'ok')"))["correct"]


# processes


@pytest.mark.parametrize(
    "attack",
    [
        "import os\nos.fork()",
        "import os\nwhile True:\n    os.fork()",
        "import os\nos.posix_spawn('/bin/sh', ['sh', '-c', 'true'], {})",
        "import subprocess\nsubprocess.run(['true'])",
        "import multiprocessing\nmultiprocessing.Process(target=print).start()",
        "import os\nassert os.system('echo ok') == 0",
    ],
)
async def test_no_process_can_be_started(run, attack):
    assert not (await run(f"{attack}\nprint('ok')"))["correct"]


@pytest.mark.parametrize(
    "attack",
    [
        "os.kill(os.getppid(), 9)",
        "os.kill(os.getppid(), 0)",
        "os.kill(-1, 9)",
        "os.kill(1, 9)",
        "os.killpg(os.getpgid(os.getppid()), 9)",
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "os.sched_setaffinity(os.getppid(), {0})",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
        "os.pidfd_open(os.getppid())",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    ],
)
async def test_other_processes_cannot_be_touched(run, attack):
    source = f"import os, resource\ntry:\n    {attack}\nexcept (OSError, ValueError):\n    print('ok')"

    assert (await run(source))["correct"]


# network


@pytest.mark.parametrize(
    "attack",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_INET6, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socketpair()",
        "socket.create_connection(('127.0.0.1', PORT), 2)",
        "os.open('/dev/tcp/127.0.0.1/PORT', os.O_RDWR)",
    ],
)
async def test_sockets_are_refused(run, attack):
    with socket.create_server(("127.0.0.1", 0)) as server:
        attack = attack.replace("PORT", str(server.getsockname()[1]))
        source = f"import os, socket\ntry:\n    {attack}\nexcept OSError:\n    print('ok')"

        assert (await run(source))["correct"]


# files and secrets


async def test_files_outside_cannot_be_written(run, tmp_path):
    target = tmp_path / "target"
    target.write_text("before")
    source = f"""
import os, shutil
refused = 0
for action in (
    lambda: open({str(target)!r}, "w").write("after"),
    lambda: open({str(tmp_path / "new")!r}, "w"),
    lambda: os.remove({str(target)!r}),
    lambda: shutil.rmtree({str(tmp_path)!r}),
    lambda: os.rename({str(target)!r}, "stolen"),
    lambda: open("../program/solution.py", "w"),
    lambda: os.chmod({str(target)!r}, 0o777) or open({str(target)!r}, "w"),
):
    try:
        action()
    except OSError:
        refused += 1
print("ok" if refused == 7 else refused)
"""
    tmp_path.chmod(0o700)
    result = await run(source)

    assert target.read_text() == "before"
    assert result["correct"], result["error"]


async def test_no_secret_is_in_the_environment_of_the_run_or_of_its_parents(run):
    source = f"""
import os
found = [{SECRET!r} in os.environ]
for pid in [os.getppid(), {os.getpid()}, 1]:
    try:
        found.append({SECRET!r}.encode() in open(f"/proc/{{pid}}/environ", "rb").read())
    except OSError:
        pass
print("leaked" if any(found) else "ok")
"""
    assert (await run(source))["correct"]


async def test_the_expected_output_is_nowhere_to_be_found(run, crew, tmp_path):
    source = """
import gc, os, sys
frame, seen = sys._getframe(), []
while frame:
    seen += [str(frame.f_locals), str(frame.f_globals)]
    frame = frame.f_back
seen += [str(item) for item in gc.get_objects() if isinstance(item, (dict, list, tuple, str))]
seen += [str(sys.argv), str(sys.orig_argv), str(dict(os.environ))]
for path in ("/proc/self/cmdline", f"/proc/{os.getppid()}/mem", f"/proc/{os.getppid()}/cmdline"):
    try:
        seen.append(open(path, "rb").read().decode("latin-1"))
    except OSError:
        pass
for folder in ("..", "../..", "../program"):
    try:
        seen.append(str(os.listdir(folder)))
    except OSError:
        pass
wanted = "".join(map(chr, [104, 105, 100, 100, 101, 110, 45, 52, 50]))
print(wanted if any(wanted in text for text in seen) else "nothing")
"""
    assert (await run(source, "", "hidden-42"))["error"] == "test 1 of 1: wrong output"


# cheating


@pytest.mark.parametrize(
    "cheat",
    [
        "print('1 2')",
        "print('1 2 3 4')",
        "print('1 2 3')\nraise SystemExit(1)",
        "import os\nprint('1 2 3', flush=True)\nos._exit(3)",
        "print('1 2 3')\nassert False",
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "print('{\"correct\": true}')",
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'1 2 3')\n    except OSError: pass",
    ],
)
async def test_a_program_passes_only_with_the_whole_output_and_a_good_end(run, cheat):
    assert not (await run(cheat, "", "1 2 3"))["correct"]


@pytest.mark.parametrize(
    "cheat",
    [
        "class Any_:\n    def __eq__(self, other): return True\ndef f(): return Any_()",
        "class I(int):\n    def __eq__(self, other): return True\ndef f(): return I(7)",
        "class S(str):\n    def __eq__(self, other): return True\ndef f(): return S('x')",
        "class L(list):\n    def __eq__(self, other): return True\ndef f(): return L([1])",
        "import os\ndef f(): os._exit(0)",
        "import sys\ndef f(): sys.exit(0)",
        "import json\njson.dumps = lambda *a, **k: '{\"correct\": true}'\ndef f(): return 1",
        "import builtins\nbuiltins.compile = builtins.exec = None\ndef f(): return 1",
        "def f():\n    import sys\n    sys.stdout.write('42')",
        "def g(): return 42",
        "raise SystemExit(0)",
        "def f(): return object()",
        "def f():\n    a = []\n    a.append(a)\n    return a",
        "def f():\n    while True: yield 1",
    ],
)
async def test_a_function_passes_only_with_the_value(run, cheat):
    assert not (await run(cheat, [], 42, fn_name="f"))["correct"]


# C++


CPP = "#include <cstdio>\n#include <unistd.h>\n#include <sys/socket.h>\n"


async def test_a_right_cpp_program_passes(run):
    source = CPP + 'int main() { int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); }'

    result = await run(source, "1 2", "3", language="cpp")

    assert result["correct"], result["error"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('puts("wrong");', "wrong output"),
        ("this is not C++", "compiling: exit status 1"),
        ("for (volatile int i = 0;; i = 0) {}", "CPU time"),
        ("return 7;", "exit status 7"),
        ("int* p = nullptr; *p = 1;", "killed by SIG"),
        ('if (fork() < 0 && socket(AF_INET, SOCK_STREAM, 0) < 0) puts("refused");', None),
    ],
)
async def test_cpp_programs_fail_for_their_own_reason(run, body, reason):
    result = await run(f"{CPP}int main() {{ {body} }}", "", "refused", language="cpp", cpu_seconds=0.3)

    assert result["correct"] if reason is None else reason in result["error"]


async def test_cpp_without_a_compiler_says_what_to_install(monkeypatch, tmp_path):
    from kubedistill_runtime.verify import tests
    from kubedistill_runtime.verify.jail import Jail, Limits
    from kubedistill_runtime.verify.sandbox import Sandbox

    monkeypatch.setattr(tests.shutil, "which", lambda _: None)
    task = tests.CodeTask("cpp", "int main(){}", [""], [""], None, Limits(**LIMITS))

    result = tests.run_tests(Sandbox(Jail("same-user", 0), tmp_path), task)

    assert not result.correct
    assert "install one of g++" in result.error


async def test_functions_of_cpp_programs_are_not_called(run):
    assert "only Python functions" in (await run("int f() {}", [], 1, fn_name="f", language="cpp"))["error"]


async def test_after_all_attacks_the_worker_still_judges_and_no_run_is_left(run, children_of):
    assert (await run("print('ok')"))["correct"]

    workers = children_of(os.getpid(), "verify.worker")
    assert workers
    assert not any(children_of(worker) for worker in workers)
