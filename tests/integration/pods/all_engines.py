"""The stages' command, but for this: no response is asked for before every engine is ready.

A few hundred tiny responses are drawn by the first engine while the others still load.
"""

import sys

from kubedistill_runtime.engines.pool import VllmPool
from kubedistill_runtime.stages.run import main

start = VllmPool.start


async def start_all(pool: VllmPool) -> None:
    await start(pool)
    while not all(slot.concurrency for slot in pool._slots):
        await pool.poll()


VllmPool.start = start_all

if __name__ == "__main__":
    sys.exit(main())
