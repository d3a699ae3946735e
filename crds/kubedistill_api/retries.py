"""What a failure of one attempt means for its stage. Failures are counted by cause. Pure."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubedistill_api.observed import Cause, Child
from kubedistill_api.status import StageStatus

DISRUPTIONS = frozenset({Cause.PREEMPTED, Cause.EVICTED, Cause.NODE_LOST, Cause.DELETED})
FINAL = {
    Cause.BAD_INPUT: "",
    Cause.OUT_OF_MEMORY: (
        "the same start would run out of memory again: lower the batch, the context length or maxNumSeqs, "
        "or give the role more memory"
    ),
    Cause.DEADLINE: "",
}
"""Causes that trying again cannot help, with the advice that is added to the message."""

# A stage has no figures before it succeeds, so its retries are shown, and counted, among them.
TRY_AGAINS = "tryAgains"
DISRUPTED = "disruptions"
GIVEN_BACK = "givenBack"


@dataclass(frozen=True)
class RetryPolicy:
    """Seconds before the n-th retry: base * 2^(n-1), at most `cap_s`. The defaults follow batch/v1 Job."""

    application_base_s: float = 10
    try_again_base_s: float = 30
    try_again_limit: int = 12
    """Exit codes 75 that a stage may have: with the default delays, more than an hour."""
    disruption_base_s: float = 5
    pending_s: float = 480
    """A child with places for some of its pods only gives them back after so long, and one without any the place on its
    runtime that others wait for. Less than the ten minutes that pods wait for each other."""
    given_back_base_s: float = 60
    cap_s: float = 600

    def delay(self, base_s: float, n: int) -> timedelta:
        return timedelta(seconds=min(base_s * 2 ** min(n - 1, 30), self.cap_s))

    def is_due(self, stage: StageStatus, now: datetime) -> bool:
        """Whether the stage may start. A moment further off than any delay was set by a clock that has since jumped
        back, and does not count."""
        if stage.retry_after is None:
            return True
        return not now < stage.retry_after <= now + timedelta(seconds=self.cap_s)


def count(stage: StageStatus, name: str) -> int:
    return int(stage.metrics.get(name) or 0)


def next_attempt(stage: StageStatus, **update: object) -> StageStatus:
    """The stage waiting for its next start."""
    return stage.model_copy(
        update={"state": "Waiting", "attempt": stage.attempt + 1, "progress": None, "retry_after": None, **update}
    )


def failed(stage: StageStatus, reason: str, message: str, now: datetime) -> StageStatus:
    """The stage at its end."""
    return stage.model_copy(
        update={"state": "Failed", "reason": reason, "message": message, "finished": now, "retry_after": None}
    )


def after_failure(
    stage: StageStatus, cause: Cause, message: str, now: datetime, backoff_limit: int, policy: RetryPolicy
) -> StageStatus:
    """The stage after its running attempt failed: waiting for another, or failed for good."""
    if cause in FINAL:
        advice = FINAL[cause]
        return failed(stage, str(cause), f"{message}; {advice}" if message and advice else message or advice, now)
    if cause is Cause.TRY_AGAIN:
        n = count(stage, TRY_AGAINS) + 1
        counted = stage.model_copy(update={"metrics": {**stage.metrics, TRY_AGAINS: n}})
        if n > policy.try_again_limit:
            return failed(counted, "TryAgainLimitExceeded", f"gave up after {n} tries, the last: {message}", now)
        return _retry(counted, cause, message, now + policy.delay(policy.try_again_base_s, n))
    if cause in DISRUPTIONS:
        return after_disruption(stage, cause, message, now, policy)
    n = stage.failures + 1
    counted = stage.model_copy(update={"failures": n})
    if n > backoff_limit:
        times = "once" if n == 1 else f"{n} times, at last"
        return failed(
            counted, "BackoffLimitExceeded", f"failed {times} (backoffLimit: {backoff_limit}): {message}", now
        )
    return _retry(counted, cause, message, now + policy.delay(policy.application_base_s, n))


def after_disruption(stage: StageStatus, reason: str, message: str, now: datetime, policy: RetryPolicy) -> StageStatus:
    """The stage after an attempt was lost through no fault of its own: free, and tried again for ever."""
    n = count(stage, DISRUPTED) + 1
    counted = stage.model_copy(update={"metrics": {**stage.metrics, DISRUPTED: n}})
    return _retry(counted, reason, message, now + policy.delay(policy.disruption_base_s, n))


def is_stuck(child: Child, now: datetime, policy: RetryPolicy) -> bool:
    """Whether a pending child holds for too long what others may want, without having all that it needs."""
    held = child.partly or child.wanted
    return held and child.started is not None and now - child.started > timedelta(seconds=policy.pending_s)


def given_back(stage: StageStatus, child: Child, now: datetime, policy: RetryPolicy) -> StageStatus:
    """The stage after it gave its places back: free. The pause is drawn by work and attempt, so that two stages that
    hold what the other one wants do not come again together."""
    n = count(stage, GIVEN_BACK) + 1
    counted = stage.model_copy(update={"metrics": {**stage.metrics, GIVEN_BACK: n}})
    pause = policy.delay(policy.given_back_base_s, n) * random.Random(f"{stage.digest} {stage.attempt}").uniform(0.5, 2)
    reason = Cause.QUOTA if child.reason == Cause.QUOTA else Cause.UNSCHEDULABLE
    why = child.message or "some pods have no node"
    what = "its other pods gave their places back" if child.partly else "it gave its place on the runtime to others"
    message = f"{why}; after {policy.pending_s:g} s {what}"
    return _retry(counted, reason, message, now + min(pause, timedelta(seconds=policy.cap_s)))


def _retry(stage: StageStatus, reason: str, message: str, when: datetime) -> StageStatus:
    return next_attempt(stage, retry_after=when, reason=str(reason), message=message)
