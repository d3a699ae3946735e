"""Runs one training: `python -m kubedistill_runtime.train JOB.json [torchrun options]`.

Without torchrun options the training runs in this process. With any, for example `--nproc-per-node 8`, torchrun starts
`worker` that many times. Either way the exit code is the worker's own: 0, 65 for bad input, another for a failure.
"""

import sys
from pathlib import Path

from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.train.worker import EXIT_BAD_INPUT, main


def launch(job_file: str, options: list[str]) -> int:
    """Runs the worker under torchrun and returns the exit code of the first process that failed, or 0."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    from kubedistill_runtime.train.job import read_job
    from kubedistill_runtime.train.loop import read_corpus
    from kubedistill_runtime.train.model import read_config

    try:
        # Found out here, wrong input is one clear line instead of one for each process.
        job = read_job(Path(job_file))
        if not job.summary_path.exists():
            read_corpus(job, read_config(job.model_path))
    except BadInput as error:
        print(f"bad input: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        torchrun([*options, "-m", "kubedistill_runtime.train.worker", job_file])
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    return 0


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1], sys.argv[2:]) if len(sys.argv) > 2 else main())
