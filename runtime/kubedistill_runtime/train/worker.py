"""One process of a training run: `python -m kubedistill_runtime.train.worker JOB.json`, alone or under torchrun."""

import logging
import os
import sys
from pathlib import Path

from kubedistill_runtime.errors import BadInput

EXIT_BAD_INPUT = 65

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Spinning OpenMP threads starve each other as soon as the cores are shared: a step of 0.08 s took 1.5 s.
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Read when torch and transformers are first imported; what the caller has set stays."""


def main(argv: list[str] | None = None) -> int:
    """Trains the job of the one argument. Returns 0, or 65 after one line on stderr where the input is wrong."""
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

        from kubedistill_runtime.train.loop import train
        from kubedistill_runtime.train.parallel import join_world, leave_world

        disable_progress_bar()
        world = join_world(job.device)
        logging.basicConfig(level=logging.INFO if world.is_first else logging.WARNING, format="%(message)s")
        try:
            train(job, world, _log)
        finally:
            leave_world()
    except BadInput as error:
        print(f"bad input: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


def _log(done: int, total: int, row: dict[str, float]) -> None:
    if done == total or done % max(1, total // 20) == 0:
        logging.getLogger(__name__).info(
            "step %d/%d loss %.4f %.0f tokens/s", done, total, row["loss"], row["tokens_per_second"]
        )


if __name__ == "__main__":
    sys.exit(main())
