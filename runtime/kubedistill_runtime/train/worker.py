"""One process of a training run: `python -m kubedistill_runtime.train.worker JOB.json`, alone or under torchrun."""

import logging
import os
import sys
from pathlib import Path

from kubedistill_runtime.errors import BadInput, TryAgain

EXIT_BAD_INPUT = 65
EXIT_TRY_AGAIN = 75

LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "Socket closed",
)
"""What gloo's errors say when another process of the training is gone."""

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Spinning OpenMP threads starve each other as soon as the cores are shared: a step of 0.08 s took 1.5 s.
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Read when torch and transformers are first imported; what the caller has set stays."""


def main(argv: list[str] | None = None) -> int:
    """Trains the job of the one argument. Returns 0; 65 after one line on stderr where the input is wrong; 75 after one
    where another process of the training went away, or a disk is full."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        print("usage: python -m kubedistill_runtime.train.worker JOB.json", file=sys.stderr)
        return EXIT_BAD_INPUT
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from kubedistill_runtime.train.job import read_job

        job = read_job(Path(arguments[0]))
        from transformers.utils.logging import disable_progress_bar

        from kubedistill_runtime.train.full_disk import full_disk
        from kubedistill_runtime.train.loop import train
        from kubedistill_runtime.train.parallel import join_world, leave_world

        disable_progress_bar()
        world = join_world(job.device)
        logging.basicConfig(level=logging.INFO if world.is_first else logging.WARNING, format="%(message)s")
        try:
            train(job, world)
        except BaseException as error:  # an error of a checkpoint is no Exception
            if full := full_disk(error, job.output_dir):
                raise full from error
            if world.size > 1 and isinstance(error, RuntimeError) and lost_peer(error):
                raise TryAgain(f"another process of the training went away: {first_line(error)}") from error
            raise
        finally:
            leave_world()
    except BadInput as error:
        print(f"bad input: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except TryAgain as error:
        print(f"try again: {error}", file=sys.stderr)
        return EXIT_TRY_AGAIN
    return 0


def lost_peer(error: RuntimeError) -> bool:
    """Whether the error came of another process that is gone, and not of this one."""
    from torch.distributed import DistBackendError, DistNetworkError

    gloo = "gloo" in str(error) and any(words in str(error) for words in LOST_PEER)
    return gloo or isinstance(error, DistBackendError | DistNetworkError)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


if __name__ == "__main__":
    sys.exit(main())
