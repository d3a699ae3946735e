"""Finished stages to start from are made as the sampling tests make them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "sampling"))
