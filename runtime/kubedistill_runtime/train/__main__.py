"""Runs one training: `python -m kubedistill_runtime.train JOB.json [torchrun options]`.

Without torchrun options the training runs in this process. With any, for example `--nproc-per-node 8`, torchrun starts
`worker` that many times. Either way the exit code is the worker's own: 0, 65 for bad input, 75 where another process of
the training went away or did not come, 128 + N for signal N, another for a failure.
"""

import signal
import sys
from collections.abc import Collection
from pathlib import Path

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.train.worker import EXIT_BAD_INPUT, EXIT_TRY_AGAIN, first_line, main

TERMINATED, KILLED = 128 + signal.SIGTERM, 128 + signal.SIGKILL


def launch(job_file: str, options: list[str]) -> int:
    """Runs the worker under torchrun and returns the exit code of the process that failed of its own, or 0."""
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.run import main as torchrun

    from kubedistill_runtime.train.job import read_job
    from kubedistill_runtime.train.loop import read_corpus
    from kubedistill_runtime.train.model import read_config

    try:
        # Found out here, wrong input is one clear line instead of one for each process.
        job = read_job(Path(job_file))
        if not job.summary_path.exists():
            read_corpus(job, read_config(job.model_path, trust_remote_code=job.trust_remote_code))
    except BadInput as error:
        print(f"bad input: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        torchrun([*options, "-m", "kubedistill_runtime.train.worker", job_file])
    except ChildFailedError as error:
        return first_cause([failure.exitcode for failure in error.failures.values()])
    except SignalException as error:
        return 128 + error.sigval
    except (DistError, RendezvousError) as error:
        print(f"try again: the pods of the training did not find each other: {first_line(error)}", file=sys.stderr)
        return EXIT_TRY_AGAIN
    return 0


def first_cause(codes: Collection[int]) -> int:
    """The exit code that tells why a training failed: one process fails, and then the others for want of it.

    Signals come as negative numbers, as `subprocess` has them; torchrun itself ends what is left with SIGTERM.
    """
    shell = [code if code >= 0 else 128 - code for code in codes]
    told = (KILLED, EXIT_BAD_INPUT)
    of_others = (EXIT_TRY_AGAIN, TERMINATED)
    return min(shell, key=lambda code: (code in of_others, code not in told, code))


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1], sys.argv[2:]) if len(sys.argv) > 2 else main())
