"""What one fault did, as a row of a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.faults.faults import Fault

HEAD = "| fault | seen | lasted | training works again | operator acts again | attempts counted | lost |"


@dataclass
class Row:
    """What one fault did."""

    fault: Fault
    began: float
    ended: float = math.nan
    again_s: float = math.nan
    """From the fault's end until both trainings make steps again."""
    operator_s: float = math.nan
    """From the fault's end until the operator acts: it renews its Lease."""
    seen: str = ""
    counted: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counted = ", ".join(f"{number} {name}" for name, number in self.counted.items() if number) or "none"
        times = [f"{seconds:.0f} s" for seconds in (self.ended - self.began, self.again_s, self.operator_s)]
        cells = [self.fault.name, self.seen, *times, counted, "; ".join(self.lost) or "nothing"]
        return f"| {' | '.join(cells)} |"


def table(rows: Sequence[Row]) -> str:
    return "\n".join([HEAD, "|---" * HEAD.count(" | ") + "|---|", *map(str, rows)])
