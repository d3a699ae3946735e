"""Faults one after the other, in rounds of jobs, and what became of the jobs."""

import math
import sys
import time
from collections.abc import Mapping, Sequence

from tests.cluster.errors import ClusterError
from tests.cluster.processes import wait_until
from tests.faults.faults import Fault
from tests.faults.ground import TENANTS, Ground, Outcome, Work
from tests.faults.row import Row

SEEN_S = 300.0
AGAIN_S = 900.0
ROUND_S = 3600.0
LOOK_S = 0.1


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
    """Both tenants' jobs to their end. Faults are made while there is time, and taken from `pending`."""
    made: list[Row] = []
    ground.begin()
    end = time.monotonic() + ROUND_S
    while not ground.have_ended():
        if time.monotonic() > end:
            raise ClusterError(f"the jobs of a round did not end in {ROUND_S:.0f} s:\n{ground.told()}")
        under_way = {tenant: work for tenant in TENANTS if (work := ground.under_way(tenant))}
        if pending and len(under_way) == len(TENANTS):
            made.append(strike(ground, pending.pop(0), under_way))
        time.sleep(LOOK_S)
    return made


def strike(ground: Ground, fault: Fault, before: Mapping[str, Work]) -> Row:
    """Makes a fault, and waits until it is over and overcome. What takes too long is in the row's `lost`."""
    say(f"{fault.name}: {before}")
    row = Row(fault, time.time())
    counted = ground.counted()
    try:
        with fault.made(ground) as is_enough:
            wait_until(is_enough, f"{fault.name} to be seen", SEEN_S, detail=ground.told)
        row.ended = time.time()
        overcome(ground, row, {tenant: before[tenant].attempt + fault.ends_attempts for tenant in TENANTS})
    except ClusterError as error:
        say(str(error))
        row.lost.append(str(error).splitlines()[0])
    row.seen = told(ground, row.began)
    row.counted = {name: number - counted[name] for name, number in ground.counted().items()}
    say(str(row))
    return row


def overcome(ground: Ground, row: Row, attempts: Mapping[str, int]) -> None:
    """Waits until the trainings work again, in these attempts or later ones, and the operator acts. Raises ClusterError
    where that takes too long."""
    waiting = set(TENANTS)

    def is_overcome() -> bool:
        waiting.difference_update([t for t in waiting if ground.works_again(t, attempts[t], row.ended)])
        if not waiting and math.isnan(row.again_s):
            row.again_s = time.time() - row.ended
        if ground.watch.renewed > row.ended and math.isnan(row.operator_s):
            row.operator_s = ground.watch.renewed - row.ended
        return not math.isnan(row.again_s + row.operator_s)

    wait_until(is_overcome, f"{row.fault.name} to be overcome", AGAIN_S, detail=ground.told)


def told(ground: Ground, since: float) -> str:
    """What was seen, each once, with where."""
    where: dict[str, list[str]] = {}
    for seen in ground.watch.since(since):
        for what in filter(None, seen.what.split("; ")):
            place = "jobs" if seen.where in TENANTS else seen.where
            if what not in where.setdefault(place, []):
                where[place].append(what)
    return "; ".join(f"{place}: {', '.join(items)}" for place, items in where.items()) or "nothing"


def miscounted(row: Row) -> list[str]:
    wrong = row.counted["failures"] and not row.fault.counts
    return [f"{row.counted['failures']} attempts were counted against backoffLimit"] if wrong else []


def say(text: str) -> None:
    print(f"== {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
