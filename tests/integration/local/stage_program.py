"""A stage as the executor sees one: reads a spec, works for a while, leaves a result or fails. Run as a program.

KUBEDISTILL_TEST_FOLDER names a folder with `behaviour.json`, stage -> what its starts do, one after the other, the
last one for ever: `ok`, `exit N`, `kill` (by SIGKILL), `hang`, `stubborn` (hang, deaf to SIGTERM), `family` (hang,
with a daemon that left the process group), `slow SECONDS`, `until NAME` (of a file in the folder), `meet STAGE` (until
that one has started), `lose` (ends well, without a result), `memory`.

Starts and ends are noted in `journal.jsonl`, and an `overlap` where the same work is being done already. Only the
standard library, so that a start is cheap.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HOME = Path(os.environ["KUBEDISTILL_TEST_FOLDER"])
SCORES = {
    "scores": [
        {"benchmark": "sums", "model": "base", "metric": "avg@4", "n": 50, "mean": 0.3, "ci": [0.25, 0.35]},
        {"benchmark": "sums", "model": "student", "metric": "avg@4", "n": 50, "mean": 0.62, "ci": [0.55, 0.69]},
    ],
    "deltas": [{"benchmark": "sums", "metric": "avg@4", "mean": 0.32, "ci": [0.22, 0.41]}],
    "details": {},
}
FUNNEL = {"questions": 10, "sampled": 80, "well_formed": 78, "correct": 60, "hard": 40, "kept": 12}
FILES = {
    "curate": {"corpus": "corpus.parquet"},
    "train": {"model": "model"},
    "evaluate": {"scores": "scores.json"},
    "report": {"report": "report.html", "card": "README.md"},
}


def note(event: str, spec: dict[str, Any]) -> None:
    """One line, in one write, so that lines of several processes do not mix."""
    entry = {name: spec[name] for name in ("stage", "digest", "attempt")}
    line = json.dumps({"event": event, **entry, "pid": os.getpid(), "time": time.time()}) + "\n"
    journal = os.open(HOME / "journal.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(journal, line.encode())
    os.close(journal)


def starts(stage: str) -> int:
    lines = (HOME / "journal.jsonl").read_text().splitlines()
    return sum((e["event"], e["stage"]) == ("start", stage) for e in map(json.loads, lines))


def wait_for_ever() -> None:
    while True:
        time.sleep(60)


def work(folder: Path, behaviour: str) -> None:
    what, _, value = behaviour.partition(" ")
    match what:
        case "exit":
            print(f"error: told to exit with {value}", file=sys.stderr)
            sys.exit(int(value))
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            print("error: torch.OutOfMemoryError: no memory left on the device", file=sys.stderr)
            sys.exit(71)
        case "lose":
            sys.exit(0)
        case "hang":
            wait_for_ever()
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (HOME / "stubborn").touch()
            wait_for_ever()
        case "family":
            program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
            daemon = subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE)
            (HOME / "daemon").write_text(daemon.stdout.readline().decode())
            wait_for_ever()
        case "until":
            while not (HOME / value).exists():
                time.sleep(0.02)
        case "meet":
            while not starts(value):
                time.sleep(0.02)
        case "slow":
            total = float(value)
            end = time.monotonic() + total
            while (left := end - time.monotonic()) > 0:
                progress = {"done": total - left, "total": total, "unit": "seconds", "message": "slowly"}
                put(folder / "progress.json", json.dumps(progress))
                time.sleep(0.02)


def put(path: Path, text: str) -> None:
    """All or nothing."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)


def make(folder: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The stage's artifacts, small."""
    made = {}
    for artifact, name in FILES.get(kind, {}).items():
        path = folder / name
        if name == "model":
            path.mkdir(exist_ok=True)
            (path / "config.json").write_text("{}")
        else:
            path.write_text(json.dumps(SCORES) if artifact == "scores" else f"{artifact} made by {kind}")
        made[artifact] = {"uri": name, "digest": f"sha256:{kind}", "bytes": path.stat().st_size}
    return made


def decision(params: dict[str, Any]) -> dict[str, Any]:
    """The last candidate leaves first; in the end it is a tie of the first two."""
    last = params["round"] == params["rounds"]
    names = list(params["students"])[: 2 if params["round"] > 1 else None]
    return {
        "round": params["round"],
        "outcome": "tie" if last else "continue",
        "leader": names[0],
        "survivors": names[:2],
        "scores": [{"candidate": name, "score": 0.6, "ci": [0.5, 0.7]} for name in names],
        "confidence": params["confidence"],
        "questions": 50,
        "samples": 4,
        "reason": f"tie between {names[0]} and {names[1]} at this budget",
    }


def main() -> int:
    spec = json.loads(Path(sys.argv[1]).read_text())
    folder, kind = Path(spec["outputUri"].removeprefix("file://")), spec["params"]["kind"]
    if (folder / "result.json").exists():
        return 0
    started = datetime.now(UTC).isoformat()
    busy = (HOME / f"busy-{spec['digest']}").open("w")
    try:
        fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("overlap", spec)
    note("start", spec)
    file = HOME / "behaviour.json"
    behaviours = json.loads(file.read_text()).get(spec["stage"], ["ok"]) if file.exists() else ["ok"]
    work(folder, behaviours[min(starts(spec["stage"]), len(behaviours)) - 1])
    result = {
        "stage": spec["stage"],
        "kind": kind,
        "digest": spec["digest"],
        "outputs": make(folder, kind),
        "metrics": FUNNEL if kind == "curate" else {},
        **({name: SCORES[name] for name in ("scores", "deltas")} if kind == "evaluate" else {}),
        **({"decision": decision(spec["params"])} if kind == "decide" else {}),
        "usage": {"completionTokens": 100},
        "started": started,
        "finished": datetime.now(UTC).isoformat(),
    }
    put(folder / "result.json", json.dumps(result))
    note("end", spec)
    return 0


if __name__ == "__main__":
    sys.exit(main())
