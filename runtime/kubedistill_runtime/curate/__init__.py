"""From sampled traces to a corpus: quality, correctness, difficulty, diversity.

`curate` does it all and says what became of every trace and question. `select_all` is its last stage by itself, with
`ray_map` (in a module of its own) to spread it over a cluster.
"""

from kubedistill_runtime.curate.pipeline import curate
from kubedistill_runtime.curate.selection import select_all
from kubedistill_runtime.curate.types import (
    Counts,
    Funnel,
    Outcome,
    PassRate,
    QuestionFate,
    Reason,
    Selection,
    Stage,
    Trace,
    TraceFate,
)

__all__ = [
    "Counts",
    "Funnel",
    "Outcome",
    "PassRate",
    "QuestionFate",
    "Reason",
    "Selection",
    "Stage",
    "Trace",
    "TraceFate",
    "curate",
    "select_all",
]
