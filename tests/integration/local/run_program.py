"""`kubedistill run MANIFEST` with the tests' stage program. Arguments: MANIFEST ROOT."""

import sys
from pathlib import Path

from kubedistill_runtime.cli.run import run
from tests.integration.local.local_bench import SETTINGS

sys.exit(run(Path(sys.argv[1]), Path(sys.argv[2]), settings=SETTINGS))
