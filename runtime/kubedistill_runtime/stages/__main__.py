"""`python -m kubedistill_runtime.stages SPEC.json`; see `--help`.

The first process of a container must pass signals on, and bury whatever orphan comes to it. The supervisor does, and
runs this command again below it.
"""

import os
import signal
import sys

POD_GRACE_S = "20"
"""Of the 30 seconds that Kubernetes gives a pod."""

if os.getpid() == 1:
    # The kernel drops what the first process has no handler for; what is blocked it keeps for the supervisor.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def main() -> int:
    if os.getpid() == 1:
        from kubedistill_runtime.stages import supervise

        command = [sys.executable, "-m", "kubedistill_runtime.stages", *sys.argv[1:]]
        supervisor = [sys.executable, "-I", "-S", supervise.__file__, str(os.getppid()), POD_GRACE_S]
        os.execv(sys.executable, [*supervisor, *command])
    from kubedistill_runtime.stages.run import main as run  # pydantic and all that, which the supervisor must not hold

    return run()


if __name__ == "__main__":
    sys.exit(main())
