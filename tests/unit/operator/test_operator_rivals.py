"""For which of the Jobs that do the same work a resource waits, how long, and what it says."""

from datetime import UTC, datetime

import pytest

from kubedistill_operator.lost import STUCK
from kubedistill_operator.names import ATTEMPT_LABEL, STAGE_LABEL
from kubedistill_operator.rivals import PATIENCE, told, waited_until

MADE = datetime(2026, 1, 1, tzinfo=UTC)
STAMP = "2026-01-01T00:00:00Z"


def job(*, suspend: bool = False, **metadata: str) -> dict:
    labels = {
        "app.kubernetes.io/part-of": "teacherprobe",
        "app.kubernetes.io/instance": "which",
        STAGE_LABEL: "prepare",
        ATTEMPT_LABEL: "3",
    }
    base = {"name": "which-prepare", "labels": labels, "creationTimestamp": STAMP}
    return {"metadata": base | metadata, "spec": {"suspend": suspend}, "status": {}}


def pod(phase: str, **metadata: str) -> dict:
    return {"metadata": {"name": "p", **metadata}, "status": {"phase": phase}}


def test_one_that_works_is_waited_for_and_named() -> None:
    assert waited_until(job(), [pod("Running")]) is None
    assert told(job(), [pod("Running")]) == (
        "TeacherProbe which does the same work (stage prepare, attempt 3, Job which-prepare)"
    )


@pytest.mark.parametrize(
    ("one", "pods", "word"),
    [
        (job(suspend=True), [], "queue"),
        (job(), [pod("Pending")], "do not run"),
        (job(), [], "do not run"),
    ],
)
def test_one_without_a_running_pod_is_waited_for_a_while_and_it_is_said_how_long(one, pods, word: str) -> None:
    assert waited_until(one, pods) == MADE + PATIENCE
    assert word in told(one, pods)
    assert "from 00:10:00 UTC on the work is begun here too" in told(one, pods)


def test_pods_on_a_lost_node_are_not_waited_for_for_ever() -> None:
    stuck = [pod("Running", deletionTimestamp=STAMP)]
    assert waited_until(job(deletionTimestamp=STAMP), stuck) == MADE + STUCK
    assert "told to end" in told(job(deletionTimestamp=STAMP), stuck)
