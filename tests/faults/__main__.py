"""What a cluster's faults do to jobs: `python -m tests.faults [--only NAME ...]`, on a real node (Linux, as root).

Two tenants run the same small job. The faults are made one after the other, each in the midst of both tenants'
trainings, in as many rounds of jobs as it takes; in a last round nothing happens. Prints a table, and ends with 1 where
something was lost: a job that does not end as it does undisturbed, or an attempt that was counted for what the cluster
did.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.node import Node
from tests.faults.faults import FAULTS
from tests.faults.ground import Ground
from tests.faults.rounds import run
from tests.faults.row import table


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of: {'; '.join(names)}")
    only = parser.parse_args(argv).only
    with tempfile.TemporaryDirectory() as folder, Node() as node:
        ground = Ground(node, Path(folder))
        ground.watch.start()
        try:
            rows = run(ground, [fault for fault in FAULTS if not only or fault.name in only])
        finally:
            ground.watch.end()
    print(table(rows))
    return 1 if any(row.lost for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
