"""The story of a resource: Events and log lines, each thing told once."""

import asyncio
import json
import logging
import random
from datetime import UTC, datetime, timedelta

import pytest

from kubedistill_api.observed import Child
from kubedistill_api.status import JobStatus, StageStatus
from kubedistill_operator.cluster import Cluster
from kubedistill_operator.journal import lines
from kubedistill_operator.logs import JsonFormatter
from kubedistill_operator.recorder import Recorder, happenings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHILD = Child("train", 0, "d", "running", pod="demo-train-0-0-x", started=NOW - timedelta(seconds=90))


def status(state: str, **more: object) -> JobStatus:
    return JobStatus(stages=[StageStatus(name="train", kind="train", digest="d", state=state, **more)])


RUNNING = status("Running")
RETRY = status("Waiting", attempt=1, retry_after=NOW, reason="Evicted", message="disk")


def told(before: JobStatus, after: JobStatus) -> list[tuple[str, str]]:
    return [(one.reason, one.message) for one in happenings(before, after, [CHILD])]


def test_each_transition_is_told_once_with_the_pod_and_what_comes() -> None:
    assert told(status("Starting"), RUNNING) == [("StageRunning", "train: attempt 0 runs (pod demo-train-0-0-x)")]
    assert told(RUNNING, status("Succeeded")) == [("StageSucceeded", "train: done (pod demo-train-0-0-x)")]
    assert told(RUNNING, RETRY) == [
        (
            "StageRetry",
            "train: Evicted: disk; it is tried again at 00:00:00 UTC; see kubectl logs demo-train-0-0-x",
        )
    ]
    (failed,) = told(RUNNING, status("Failed", reason="BadInput", message="no column"))
    assert failed[1].endswith("kubectl logs demo-train-0-0-x")


@pytest.mark.parametrize("same", [RUNNING, RETRY, status("Succeeded"), status("Starting", reason="Unschedulable")])
def test_what_stays_is_told_no_more_also_after_the_operator_was_started_again(same: JobStatus) -> None:
    again = JobStatus.model_validate_json(same.model_dump_json(by_alias=True))
    assert told(same, again) == []
    assert list(lines(same, again, [CHILD], NOW)) == []


def test_an_image_that_cannot_be_pulled_is_told_once_however_the_kubelet_puts_it() -> None:
    first, second = (status("Starting", reason=reason) for reason in ("ErrImagePull", "ImagePullBackOff"))
    assert len(told(status("Starting"), first)) == 1
    assert told(first, second) == told(second, first) == []


def test_a_node_that_does_not_answer_is_told_once() -> None:
    away = status("Running", reason="NodeUnreachable", message="pod p")
    assert told(RUNNING, away) == [("NodeUnreachable", "train: pod p")]
    assert told(away, away) == []


def test_the_log_has_a_line_for_the_start_and_one_for_the_end_of_an_attempt() -> None:
    base = {"stage": "train", "attempt": 0, "pod": "demo-train-0-0-x"}
    assert list(lines(status("Starting"), RUNNING, [CHILD], NOW)) == [{"event": "start", **base}]
    assert list(lines(RUNNING, RETRY, [CHILD], NOW)) == [
        {"event": "end", **base, "outcome": "Retried", "reason": "Evicted", "seconds": 90.0}
    ]
    finished = status("Succeeded", finished=NOW - timedelta(seconds=30))
    assert list(lines(RUNNING, finished, [CHILD], NOW)) == [
        {"event": "end", **base, "outcome": "Succeeded", "reason": "", "seconds": 60.0}
    ]
    (stopped,) = lines(RUNNING, status("Waiting", attempt=1, reason="Suspended"), [CHILD], NOW)
    assert (stopped["outcome"], stopped["reason"]) == ("Stopped", "Suspended")
    assert list(lines(status("Waiting"), status("Succeeded", reused=True), [], NOW)) == []


def test_a_queue_that_takes_its_places_back_is_told_as_that_and_waiting_for_it_is_no_warning() -> None:
    queued = status("Starting", reason="Queued", message="waits for gpus")
    (first,) = happenings(status("Starting"), queued, [])
    assert (first.type, first.reason, first.message) == ("Normal", "Queued", "train: waits for gpus")
    (evicted,) = happenings(RUNNING, queued, [])
    assert (evicted.type, evicted.reason) == ("Warning", "EvictedByQueue")
    assert list(happenings(queued, queued, [])) == []
    (line,) = lines(RUNNING, queued, [CHILD], NOW)
    assert (line["event"], line["outcome"], line["reason"]) == ("end", "Stopped", "Queued")
    assert [line["event"] for line in lines(queued, RUNNING, [CHILD], NOW)] == ["start"]


def test_the_fields_of_a_line_are_fields_of_the_json() -> None:
    record = logging.LogRecord("n", logging.INFO, "", 0, "said", (), None)
    record.fields = {"event": "start", "stage": "train"}
    record.object = "DistillationJob/team-a/demo"
    line = json.loads(JsonFormatter().format(record))
    assert (line["event"], line["stage"], line["object"]) == ("start", "train", "DistillationJob/team-a/demo")


async def test_events_are_written_side_by_side_and_in_order_for_each_resource() -> None:
    written: list[tuple[str, str]] = []
    under_way, most, rng, done = 0, 0, random.Random(0), asyncio.Event()

    class Slow(Cluster):
        def __init__(self) -> None: ...

        async def create(self, item: dict) -> dict:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            for _ in range(rng.randrange(5)):
                await asyncio.sleep(0)
            under_way -= 1
            written.append((item["involvedObject"]["uid"], item["message"]))
            if len(written) == len(sent):
                done.set()
            return item

    recorder = Recorder(Slow())
    sent = [(f"uid-{n % 10}", str(n)) for n in range(100)]
    for uid, message in sent:
        metadata = {"name": uid, "namespace": "team-a", "uid": uid}
        recorder.warn({"kind": "DistillationJob", "metadata": metadata}, "Told", message)
    running = asyncio.create_task(recorder.run())
    async with asyncio.timeout(30):
        await done.wait()
    running.cancel()
    for n in range(10):
        assert [one for one in written if one[0] == f"uid-{n}"] == [one for one in sent if one[0] == f"uid-{n}"]
    assert most > 1
