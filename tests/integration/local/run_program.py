"""`kubedistill run MANIFEST` with the tests' stage program: python run_program.py MANIFEST ROOT."""

import sys
from pathlib import Path

from local_bench import SETTINGS

from kubedistill_runtime.cli.run import run

sys.exit(run(Path(sys.argv[1]), Path(sys.argv[2]), settings=SETTINGS))
