"""Runs one program in the jail: its folders, its descriptors, its environment. For a process with a single thread."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kubedistill_runtime.verify.folder import remove_tree
from kubedistill_runtime.verify.jail import Jail, Limits, enter, rules
from kubedistill_runtime.verify.watch import Run, watch


class Sandbox:
    """Two folders in which runs take place, one at a time: `program` (theirs to read) and `work` (theirs to write)."""

    def __init__(self, jail: Jail, root: Path) -> None:
        self.jail = jail
        self.program = root / "program"
        self.work = root / "work"
        self.program.mkdir(parents=True, exist_ok=True)
        root.chmod(0o711)
        self.program.chmod(0o755)

    def run(self, argv: Sequence[str], limits: Limits, stdin: Path | None = None, *, building: bool = False) -> Run:
        """Run a program to its end or its limits; `{result}` in argv becomes a descriptor it may write a result to.

        building is for a compiler: it may fork, and write the program's folder. Raises OSError or SubprocessError where
        the jail cannot be entered; nothing has run then.
        """
        parent = os.getpid()
        with ExitStack() as opened, self._folders(building):
            read, write = ([], [self.program, self.work]) if building else ([self.program], [self.work])
            ruleset = rules(self.jail, read=read, write=write)
            if ruleset is not None:
                opened.callback(os.close, ruleset)
            readable, writable = os.pipe()
            opened.callback(os.close, readable)
            with open(writable, "wb", buffering=0) as result:  # noqa: PTH123 - a descriptor, no path
                process = subprocess.Popen(
                    [str(result.fileno()) if part == "{result}" else part for part in argv],
                    stdin=subprocess.DEVNULL if stdin is None else opened.enter_context(stdin.open("rb")),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=self.work,
                    env=self._environment(),
                    pass_fds=[result.fileno()],
                    start_new_session=True,
                    preexec_fn=lambda: enter(self.jail, limits, ruleset, parent, forks=building),
                )
            return watch(process, limits, self.work, readable)

    def clear(self) -> None:
        """Remove what programs and runs left."""
        remove_tree(self.work)
        remove_tree(self.program)
        self.program.mkdir()

    @contextmanager
    def _folders(self, building: bool) -> Iterator[None]:
        remove_tree(self.work)
        self.work.mkdir(mode=0o700)
        if self.jail.uid is None:
            yield
            return
        os.chown(self.work, self.jail.uid, self.jail.uid)
        if building:
            os.chown(self.program, self.jail.uid, self.jail.uid)
        try:
            yield
        finally:
            os.chown(self.program, os.geteuid(), os.getegid())

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.work),
            "TMPDIR": str(self.work),
            "LANG": "C.UTF-8",
            "PYTHONHASHSEED": "0",  # the order of a set must not decide a verdict
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
