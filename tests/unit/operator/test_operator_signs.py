"""One silent watch among several fails the probe; a quiet one that begins anew does not."""

import asyncio

import aiohttp
import kopf

from kubedistill_operator.app import App
from kubedistill_operator.main import WATCHED, operator_settings
from kubedistill_operator.settings import Settings
from kubedistill_operator.signs import CYCLE_S, Signs
from tests.unit.operator.test_operator_app import Idle


def test_each_watch_has_a_clock_of_its_own() -> None:
    now = 0.0
    signs = Signs({"Job": 1, "Pod": 2}, lambda: now)
    signs.began("Job", "jobs")
    signs.began("Pod", "pods@a")
    signs.began("Pod", "pods@b")
    now = 50
    signs.began("Pod", "pods@a")
    now = 60
    signs.heard()
    assert signs.newest() == 0
    assert signs.silent(20) == {"jobs": 60, "pods@b": 60}
    signs.began("Pod", "pods@b")
    assert signs.silent(20) == {"jobs": 60}


def test_one_that_never_began_is_silent_by_its_kind() -> None:
    now = 0.0
    signs = Signs({"Job": 1, "Pod": 2}, lambda: now)
    now = 50
    signs.began("Job", "jobs")
    signs.began("Pod", "pods@a")
    assert signs.silent(20) == {"Pod": 50}


async def test_a_watch_that_begins_is_a_sign_of_its_kind_and_selects_nothing() -> None:
    now = 0.0
    signs = Signs(dict.fromkeys(WATCHED, 1), lambda: now)
    chosen = operator_settings(Settings(), signs)
    now = 100
    for kind, (group, version, plural) in WATCHED.items():
        assert kind in signs.silent(1)
        found = chosen.watching.label_selectors.collect(kopf.Resource(group, version, plural))
        assert found == (["app.kubernetes.io/managed-by=kubedistill"] if kind in ("Job", "Pod", "ConfigMap") else [])
        assert kind not in signs.silent(1)


def test_the_app_knows_every_watch() -> None:
    signs = App(Idle(), Settings()).signs
    assert signs.silent(-1).keys() == WATCHED.keys()


def test_where_some_namespaces_are_served_each_has_its_watches_and_so_has_the_leases() -> None:
    signs = App(Idle(), Settings(namespaces=("a", "b"), lease_namespace="b")).signs
    for kind in WATCHED:
        signs.began(kind, f"{kind}@a")
    assert WATCHED.keys() & signs.silent(-1).keys() == WATCHED.keys() - {"ClusterDistillationRuntime"}
    for kind in WATCHED:
        signs.began(kind, f"{kind}@b")
    assert not WATCHED.keys() & signs.silent(-1).keys()


async def test_the_probe_names_the_watch_that_is_silent() -> None:
    app = App(Idle("another"), Settings(port=0, identity="one"))
    now = 0.0
    app.signs = Signs(dict.fromkeys(WATCHED, 1), lambda: now)
    running = asyncio.create_task(app.run())
    while not app.port:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    for moment in range(0, 2 * CYCLE_S, 10):
        now = moment
        for kind in WATCHED.keys() - {"Pod"}:
            app.signs.began(kind, kind)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{app.port}/healthz") as answer,
    ):
        assert answer.status == 500
        assert "Pod for 590 s" in await answer.text()
    running.cancel()
