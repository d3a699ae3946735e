"""`python -m kubedistill_operator`: the operator until it is told to end."""

import asyncio
import logging
import os
import signal
import sys

from kubedistill_operator.app import App
from kubedistill_operator.cluster import ApiError, Cluster
from kubedistill_operator.lease import LeaseLost
from kubedistill_operator.logs import set_up
from kubedistill_operator.main import watch
from kubedistill_operator.settings import Settings, parse

log = logging.getLogger("kubedistill_operator")


async def operate(app: App, stop: asyncio.Event) -> int:
    """Runs one operator until `stop` is set; returns the exit code."""
    watches = asyncio.create_task(watch(app, stop))
    work = asyncio.create_task(app.run())
    ended = asyncio.create_task(stop.wait())
    tasks = (watches, work, ended)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        failed = [error for task in (work, watches) if task.done() and (error := task.exception())]
    finally:
        stop.set()
        work.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for error in map(_cause, failed):
        log.error("%s", error, exc_info=None if isinstance(error, LeaseLost | ApiError) else error)
    return 1 if failed else 0


async def run(settings: Settings) -> int:
    """Runs the operator until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    cluster = await Cluster.connect(settings.kubeconfig)
    try:
        return await operate(App(cluster, settings), stop)
    finally:
        await cluster.close()


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def main() -> int:
    settings = parse()
    if settings.kubeconfig:
        os.environ["KUBECONFIG"] = settings.kubeconfig
    set_up(settings)
    return asyncio.run(run(settings))


if __name__ == "__main__":
    sys.exit(main())
