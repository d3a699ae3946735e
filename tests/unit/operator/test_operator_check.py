"""What `helm test` finds wrong."""

from aiohttp import web

from kubedistill_operator.check import KINDS, problems
from kubedistill_operator.cluster import NotFound


class FakeCluster:
    """Serves some kinds, or not even the group."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds

    async def served_kinds(self) -> frozenset[str]:
        if not self.kinds:
            raise NotFound(404, "NotFound", "the server could not find the requested resource")
        return frozenset(self.kinds)


async def pages(**status: int) -> tuple[web.AppRunner, str]:
    """An operator's pages, each with its status."""
    site = web.Application()
    for name in ("readyz", "healthz", "metrics"):

        async def page(request: web.Request, name: str = name) -> web.Response:
            return web.Response(status=status.get(name, 200), text=f"says {name}")

        site.router.add_get(f"/{name}", page)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def test_all_is_well() -> None:
    runner, url = await pages()
    try:
        assert await problems(FakeCluster(*KINDS), url) == []  # type: ignore[arg-type]
    finally:
        await runner.cleanup()


async def test_a_missing_kind_and_a_page_that_fails_are_named() -> None:
    runner, url = await pages(healthz=500)
    try:
        found = await problems(FakeCluster("DistillationJob", "TeacherProbe"), url)  # type: ignore[arg-type]
    finally:
        await runner.cleanup()
    assert found == [
        "the API server does not serve ClusterDistillationRuntime, DistillationRuntime, DistillationStudy: are the "
        "CRDs installed (crds.enabled)?",
        f"{url}/healthz answers 500: says healthz",
    ]


async def test_without_the_crds_and_without_an_operator_everything_is_named() -> None:
    runner, url = await pages()
    await runner.cleanup()
    found = await problems(FakeCluster(), url)  # type: ignore[arg-type]
    assert found[0].startswith("the API server does not serve kubedistill.io: ")
    assert [one.split(" ")[0] for one in found[1:]] == [f"{url}/readyz", f"{url}/healthz", f"{url}/metrics"]
