"""Which jail holds here: each candidate is tried by a program that attacks it."""

import json
import subprocess
import sys
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path

from kubedistill_runtime.verify.jail import Jail, Limits, candidates
from kubedistill_runtime.verify.sandbox import Sandbox
from kubedistill_runtime.verify.seccomp import supported
from kubedistill_runtime.verify.types import VerifierUnavailable

RUNNER = (Path(__file__).parent / "runner.py").read_text(encoding="utf-8")

_PROBE_LIMITS = Limits(cpu_seconds=10, memory_mib=512, file_mib=1, processes=8, output_mib=1, wall_seconds=60)
_PROBE = """
import json, os, socket
def refused(action):
    try:
        action()
    except OSError:
        return True
    return False
held = {
    "socket": refused(lambda: socket.socket(socket.AF_INET)) and refused(lambda: socket.socket(socket.AF_UNIX)),
    "fork": refused(os.fork),
    "files": refused(lambda: open(OUTSIDE, "w")) and refused(lambda: open(f"/proc/{os.getppid()}/environ")),
}
print(json.dumps(held))
"""


@dataclass(frozen=True)
class Isolation:
    """The isolation in force. files: whether a program is kept from files outside its folder and the interpreter's."""

    identity: str
    landlock: int
    files: bool

    def as_dict(self) -> dict[str, object]:
        """For the wire and the log."""
        return asdict(self)


def python_command(kind: str, source: Path, name: str = "-") -> list[str]:
    """The command that runs Python source in the sandbox; `{result}` stands for the result's descriptor."""
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return [
        sys.executable,
        "-s",
        "-S",
        "-P",
        "-B",
        "-c",
        RUNNER,
        kind,
        str(source),
        "{result}",
        name,
        *sorted(packages),
    ]


def detect(root: Path) -> tuple[Jail, Isolation]:
    """The strictest jail that works on this machine. Raises VerifierUnavailable where none keeps the network out."""
    if not supported():
        raise VerifierUnavailable("model-written code needs Linux on x86-64 or arm64 to be confined: run it there")
    reasons = []
    for jail in candidates():
        held = _attack(jail, root)
        if isinstance(held, str):
            reasons.append(f"{jail.identity}: {held}")
        elif held["socket"] and held["fork"]:
            return jail, Isolation(jail.identity, jail.landlock, held["files"])
        else:
            reasons.append(f"{jail.identity}: the program opened a socket or forked")
    raise VerifierUnavailable(f"no isolation for model-written code, so none is run ({'; '.join(reasons)})")


def _attack(jail: Jail, root: Path) -> dict[str, bool] | str:
    sandbox = Sandbox(jail, root)
    source, outside = sandbox.program / "solution.py", root / "outside"
    outside.touch(mode=0o600)
    source.write_text(_PROBE.replace("OUTSIDE", repr(str(outside))))
    try:
        run = sandbox.run(python_command("program", source), _PROBE_LIMITS)
        return run.failure or json.loads(run.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return str(error)
    finally:
        outside.unlink()
        sandbox.clear()
