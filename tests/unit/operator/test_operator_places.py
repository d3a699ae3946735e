"""The ledger of places: what is held and asked for, by runtime, also by an operator that has just begun."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubedistill_api.base import API_VERSION
from kubedistill_api.runtime import LimitsSpec
from kubedistill_api.status import JobStatus, RuntimeStatus, StageStatus
from kubedistill_operator.names import ATTEMPT_LABEL, DIGEST_LABEL, STAGE_LABEL, UID_LABEL
from kubedistill_operator.places import Ledger
from kubedistill_operator.store import Key, Store

START = datetime(2026, 1, 1, tzinfo=UTC)
SHARED = ("ClusterDistillationRuntime", "", "shared")
NONE = LimitsSpec()
NOTHING: frozenset[str] = frozenset()


def key(namespace: str, name: str = "demo") -> Key:
    return Key("DistillationJob", namespace, name)


def status(running: int = 0, waiting: int = 0, since: float = 0) -> JobStatus:
    moment = START + timedelta(seconds=since)
    stages = [StageStatus(name=f"r{n}", kind="train", digest="d", state="Running") for n in range(running)]
    stages += [StageStatus(name=f"w{n}", kind="train", digest="d", waiting_since=moment) for n in range(waiting)]
    return JobStatus(stages=stages, runtime=RuntimeStatus(kind=SHARED[0], name="shared", digest="d"))


def runtime(version: int = 1, **limits: int) -> dict[str, Any]:
    metadata = {"name": "shared", "uid": "r", "resourceVersion": str(version)}
    return {"apiVersion": API_VERSION, "metadata": metadata, "spec": {"limits": limits}}


@pytest.fixture
def store() -> Store:
    store = Store()
    store.put("ClusterDistillationRuntime", runtime(maxStages=2))
    return store


def test_a_resource_sees_what_others_hold_and_ask_for_and_is_woken_when_its_turn_comes(store: Store) -> None:
    ledger = Ledger(store)
    ledger.seen(key("a"), status(running=2), NOTHING)
    ledger.seen(key("b"), status(waiting=1), NOTHING)
    assert list(ledger.next()) == []
    seen = ledger.turns(key("b"), SHARED, NONE)
    assert (seen.held["a"], seen.held["b"], seen.claims) == (2, 0, ())
    (claim,) = ledger.turns(key("a"), SHARED, NONE).claims
    assert (claim.who, claim.stage, claim.since) == (key("b"), "w0", START)
    # A stage whose child lives on holds its place, whatever the status says.
    ledger.seen(key("a"), status(running=1), {"r0", "r1"})
    assert list(ledger.next()) == []
    ledger.seen(key("a"), status(running=1), {"r0"})
    assert list(ledger.next()) == [key("b")]
    assert list(ledger.next()) == []


def test_who_fails_or_goes_keeps_nobody_waiting(store: Store) -> None:
    ledger = Ledger(store)
    ledger.seen(key("a"), status(running=2), NOTHING)
    ledger.seen(key("b"), status(waiting=1), NOTHING)
    ledger.seen(key("c"), status(waiting=1, since=1), NOTHING)
    ledger.withdraw(key("b"))
    ledger.forget(key("a"))
    assert list(ledger.next()) == [key("c")]
    ledger.withdraw(key("c"))
    ledger.seen(key("b"), status(waiting=1), NOTHING)
    assert list(ledger.next()) == [key("b")]


def test_the_runtimes_present_bounds_hold_and_those_settled_on_where_it_is_gone(store: Store) -> None:
    ledger = Ledger(store)
    ledger.seen(key("a"), status(running=2), NOTHING)
    ledger.seen(key("b"), status(waiting=2), NOTHING)
    list(ledger.next())
    store.put("ClusterDistillationRuntime", runtime(2, maxStages=3, maxStagesPerNamespace=1))
    ledger.changed(SHARED)
    assert list(ledger.next()) == [key("b")]
    store.put("ClusterDistillationRuntime", runtime(3))
    assert ledger.turns(key("b"), SHARED, LimitsSpec(max_stages=1)) is None
    store.drop("ClusterDistillationRuntime", runtime(3))
    assert ledger.turns(key("b"), SHARED, LimitsSpec(max_stages=1)).places.total == 1


def test_a_new_operator_finds_what_was_taken_before_it(store: Store) -> None:
    def put(namespace: str, one: JobStatus) -> None:
        metadata = {"name": "demo", "namespace": namespace, "uid": namespace, "resourceVersion": "1"}
        content = one.model_dump(mode="json", by_alias=True, exclude_none=True)
        store.put("DistillationJob", {"metadata": metadata, "spec": {}, "status": content})

    put("a", status(running=1))
    put("b", status(waiting=1))
    labels = {UID_LABEL: "b", STAGE_LABEL: "x", ATTEMPT_LABEL: "0", DIGEST_LABEL: "d"}
    metadata = {"name": "demo-x", "namespace": "b", "uid": "j", "resourceVersion": "1", "labels": labels}
    store.put("Job", {"metadata": metadata, "spec": {}, "status": {}})
    ledger = Ledger(store)
    ledger.take_stock()
    seen = ledger.turns(key("c"), SHARED, NONE)
    assert (dict(seen.held), [claim.since for claim in seen.claims]) == ({"a": 1, "b": 1}, [START])
