"""What a cluster's faults do to jobs: `python -m tests.faults [--only NAME ...]`, on a real node (Linux, as root).

Two tenants run the same small job. The faults are made one after the other, each while both tenants have a stage in the
midst of its work, in as many rounds of jobs as it takes; in a last round nothing happens. Prints a table, and ends with
1 where something was lost: a job that does not end as it does undisturbed, or an attempt that was counted for what the
cluster did.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.node import Node
from tests.cluster.processes import wait_until
from tests.faults.faults import FAULTS, Fault, Under
from tests.faults.ground import TENANTS, Ground, Outcome, Work

SEEN_S = 300.0
AGAIN_S = 900.0
ROUND_S = 3600.0
LOOK_S = 0.1


@dataclass
class Row:
    """What one fault did."""

    fault: Fault
    stages: str
    began: float
    ended: float = math.nan
    again_s: float = math.nan
    """From the fault's end until all stages that it met work again."""
    operator_s: float = math.nan
    """From the fault's end until the operator acts: it renews its Lease."""
    seen: str = ""
    counted: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def strike(ground: Ground, fault: Fault, under: Under) -> Row:
    """Makes a fault, and waits until it is over and overcome. What takes too long is in the row's `lost`."""
    say(f"{fault.name}: " + ", ".join(f"{tenant} is at {work}" for tenant, work in under.items()))
    row = Row(fault, " and ".join(dict.fromkeys(work.stage for work in under.values())), time.time())
    before = ground.counted()
    try:
        with fault.made(ground, under) as is_enough:
            wait_until(is_enough, f"{fault.name} to be seen", SEEN_S, detail=ground.told)
            at_end = {tenant: ground.work(tenant, work.stage) or work for tenant, work in under.items()}
        row.ended = time.time()
        overcome(ground, row, under if fault.ends_attempts else at_end)
    except ClusterError as error:
        say(str(error))
        row.lost.append(str(error).splitlines()[0])
    row.seen = told(ground, row.began)
    row.counted = {name: number - before[name] for name, number in ground.counted().items()}
    say(line(row))
    return row


def overcome(ground: Ground, row: Row, before: Under) -> None:
    """Waits until the stages work again, and the operator acts. Raises ClusterError where that takes too long."""
    waiting = set(TENANTS)

    def is_overcome() -> bool:
        waiting.difference_update([t for t in waiting if works_again(ground, row.fault, t, before[t], row.ended)])
        if not waiting and math.isnan(row.again_s):
            row.again_s = time.time() - row.ended
        if ground.watch.renewed > row.ended and math.isnan(row.operator_s):
            row.operator_s = ground.watch.renewed - row.ended
        return not math.isnan(row.again_s + row.operator_s)

    wait_until(is_overcome, f"{row.fault.name} to be overcome", AGAIN_S, detail=ground.told)


def works_again(ground: Ground, fault: Fault, tenant: str, before: Work, since: float) -> bool:
    """Whether the stage works again; where its attempt was ended, in another one."""
    status = ground.stage(tenant, before.stage)
    if fault.ends_attempts and status.get("state") == "Running" and status["attempt"] == before.attempt:
        return False
    return ground.works_again(tenant, before, since)


def told(ground: Ground, since: float) -> str:
    """What was seen, each once, with where."""
    where: dict[str, list[str]] = {}
    for seen in ground.watch.since(since):
        for what in filter(None, seen.what.split("; ")):
            place = "jobs" if seen.where in TENANTS else seen.where
            if what not in where.setdefault(place, []):
                where[place].append(what)
    return "; ".join(f"{place}: {', '.join(items)}" for place, items in where.items()) or "nothing"


def run(ground: Ground, faults: Sequence[Fault]) -> list[Row]:
    """All faults, in rounds of jobs, and last a round without any, to compare with."""
    rounds: list[tuple[list[Row], dict[str, Outcome]]] = []
    pending = list(faults)
    while pending:
        made = one_round(ground, pending)
        if not made:
            raise ClusterError(f"no moment came for {pending[0].name}:\n{ground.told()}")
        rounds.append((made, {tenant: ground.outcome(tenant) for tenant in TENANTS}))
        say(f"round of {len(made)} faults ended: {rounds[-1][1]}")
    one_round(ground, [])
    expected = {tenant: ground.outcome(tenant) for tenant in TENANTS}
    say(f"undisturbed: {expected}")
    for made, outcomes in rounds:
        wrong = [f"{t}: {outcomes[t]} instead of {expected[t]}" for t in TENANTS if outcomes[t] != expected[t]]
        for row in made:
            row.lost += wrong + miscounted(row)
    return [row for made, _ in rounds for row in made]


def one_round(ground: Ground, pending: list[Fault]) -> list[Row]:
    """Both tenants' jobs to their end. The faults whose moment comes are made, and taken from `pending`."""
    made: list[Row] = []
    ground.begin()
    end = time.monotonic() + ROUND_S
    while not ground.have_ended():
        if time.monotonic() > end:
            raise ClusterError(f"the jobs of a round did not end in {ROUND_S:.0f} s:\n{ground.told()}")
        under = {tenant: work for tenant in TENANTS if (work := ground.under_way(tenant))}
        fits = (f for f in pending if {t for t, work in under.items() if work.stage in f.stages} == set(TENANTS))
        if fault := next(fits, None):
            made.append(strike(ground, fault, under))
            pending.remove(fault)
        time.sleep(LOOK_S)
    return made


def miscounted(row: Row) -> list[str]:
    wrong = row.counted["failures"] and not row.fault.counts
    return [f"{row.counted['failures']} attempts were counted against backoffLimit"] if wrong else []


def line(row: Row) -> str:
    counted = ", ".join(f"{number} {name}" for name, number in row.counted.items() if number) or "none"
    times = [f"{seconds:.0f} s" for seconds in (row.ended - row.began, row.again_s, row.operator_s)]
    cells = [row.fault.name, row.stages, row.seen, *times, counted, "; ".join(row.lost) or "nothing"]
    return f"| {' | '.join(cells)} |"


def table(rows: Sequence[Row]) -> str:
    head = "| fault | in stage | seen | lasted | stages work again | operator acts again | attempts counted | lost |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *map(line, rows)])


def say(text: str) -> None:
    print(f"== {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


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
