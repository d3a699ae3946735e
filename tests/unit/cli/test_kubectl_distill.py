"""`kubectl distill watch` with a kubectl that is played."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kubedistill_runtime.cli.kubectl_distill import events

KUBECTL = """#!{python}
import pathlib, sys, time
pathlib.Path({seen!r}).open("a").write(" ".join(sys.argv[1:]) + "\\n")
streams = sorted(pathlib.Path({streams!r}).glob("*.json"))
if not streams:
    print("Error from server (NotFound)", file=sys.stderr)
    sys.exit(1)
sys.stdout.write(streams[0].read_text())
streams[0].unlink()
"""


def item(phase: str, *states: str) -> dict[str, object]:
    ended = {"Complete": "Complete", "Failed": "Failed"}.get(phase)
    conditions = []
    if ended:
        conditions = [{"type": ended, "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    stages = [{"name": f"s{i}", "kind": "train", "digest": "d", "state": state} for i, state in enumerate(states)]
    return {
        "kind": "DistillationJob",
        "metadata": {"name": "demo", "namespace": "team-a"},
        "status": {"phase": phase, "conditions": conditions, "stages": stages},
    }


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl on the PATH that prints one file of the folder at each call."""
    program, streams = tmp_path / "bin" / "kubectl", tmp_path / "streams"
    program.parent.mkdir()
    streams.mkdir()
    text = KUBECTL.format(python=sys.executable, seen=str(tmp_path / "seen"), streams=str(streams))
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return streams


def watch(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from kubedistill_runtime.cli.kubectl_distill import main; main()"
    command = [sys.executable, "-c", program, "watch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def told(*changes: tuple[str, dict[str, object]]) -> str:
    return "\n".join(json.dumps({"type": kind, "object": item}, indent=4) for kind, item in changes)


def test_it_shows_every_step_and_goes_on_after_a_watch_that_the_server_ended(kubectl: Path, tmp_path: Path) -> None:
    first = told(("ADDED", item("Pending")), ("MODIFIED", item("Running", "Running", "Waiting")))
    second = told(
        ("ADDED", item("Running", "Succeeded", "Running")), ("MODIFIED", item("Complete", "Succeeded", "Succeeded"))
    )
    (kubectl / "1.json").write_text(first)
    (kubectl / "2.json").write_text(second)
    done = watch("demo", "-n", "team-a")
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line[2:3] == ":"]
    mine = "kubedistill.io/stage={},app.kubernetes.io/instance=demo"
    logs = f"log: kubectl logs --prefix --selector {mine} --namespace=team-a"
    assert lines == [
        f"s0 started, {logs.format('s0')}",
        "s0 done in 0.0 s",
        f"s1 started, {logs.format('s1')}",
        "s1 done in 0.0 s",
    ]
    assert "DistillationJob team-a/demo: Complete" in done.stdout
    asked = (tmp_path / "seen").read_text().splitlines()
    assert len(asked) == 2
    assert "get distillationjob/demo --watch" in asked[0]


@pytest.mark.parametrize(
    ("last", "code"), [(("MODIFIED", item("Failed", "Failed")), 1), (("DELETED", item("Running", "Running")), 2)]
)
def test_a_bad_end_has_its_exit_code(kubectl: Path, last: tuple[str, dict[str, object]], code: int) -> None:
    (kubectl / "1.json").write_text(told(("ADDED", item("Pending")), last))
    assert watch("djob/demo").returncode == code


def test_what_kubectl_refuses_is_kubectls_message(kubectl: Path) -> None:
    done = watch("nothing")
    assert done.returncode == 2
    assert "NotFound" in done.stderr


def test_objects_are_found_wherever_the_stream_is_cut() -> None:
    class Dripping(io.BytesIO):
        def read1(self, size: int = -1) -> bytes:
            return super().read1(3)

    text = '{"a": "ü}{"}\n{\n "b": [1]}  \n'
    assert list(events(Dripping(text.encode()))) == [{"a": "ü}{"}, {"b": [1]}]
