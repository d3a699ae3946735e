"""What is read live for a look."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from kubedistill_operator import observer
from kubedistill_operator.cluster import Cluster
from kubedistill_operator.observer import Observer
from kubedistill_operator.poller import Poller
from kubedistill_operator.store import Key, Store
from kubedistill_operator.workqueue import WorkQueue

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MADE = (NOW - timedelta(minutes=1)).isoformat()


class Events(Cluster):
    """An API server that takes its time to find an Event."""

    def __init__(self) -> None:
        self.asked = 0

    async def list_all(self, kind: str, namespace: str | None = None, **query: str) -> tuple[list[dict], int]:
        self.asked += 1
        await asyncio.sleep(0.01)
        return [{"lastTimestamp": MADE, "message": "exceeded quota"}], 1


def job(number: int) -> dict[str, Any]:
    metadata = {"name": f"job-{number}", "namespace": "team-a", "uid": str(number), "creationTimestamp": MADE}
    return {"metadata": metadata, "spec": {"parallelism": 1}}


async def test_why_jobs_have_no_pods_is_asked_for_one_at_a_time_and_with_pauses(monkeypatch) -> None:
    monkeypatch.setattr(observer, "TROUBLE_SHARE", 1e-6)
    cluster, queue = Events(), WorkQueue[Key]()
    one = Observer(cluster, Store(), queue, Poller(queue.add, 10.0), lambda place, key: None, lambda: NOW)

    async def all_of_them() -> list[str]:
        keys = [Key("DistillationJob", "team-a", str(n)) for n in range(50)]
        return await asyncio.gather(*(one._trouble(job(n), [], key) for n, key in enumerate(keys)))

    assert await all_of_them() == ["exceeded quota"] + [""] * 49
    assert cluster.asked == 1
    # A pause as long as the share says, of hours here.
    assert await all_of_them() == ["exceeded quota"] + [""] * 49
    assert cluster.asked == 1
    monkeypatch.setattr(one, "_may_ask", 0.0)
    assert await all_of_them() == ["exceeded quota"] * 2 + [""] * 48
    assert cluster.asked == 2
