"""`python -m kubedistill_operator.check URL`: whether the API is served and the operator at URL answers.

What `helm test` runs. It tries for `--seconds`, says what it found, and ends with 0 when all is well, else with 1.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

import aiohttp

from kubedistill_operator.cluster import ApiError, Cluster
from kubedistill_operator.kinds import PLURALS

KINDS = tuple(sorted(PLURALS))
PAUSE_S = 1.0
TIMEOUT_S = 5.0


async def problems(cluster: Cluster, url: str) -> list[str]:
    """What is wrong; nothing where all is well."""
    found = []
    try:
        served = await cluster.served_kinds()
        missing = [kind for kind in KINDS if kind not in served]
        if missing:
            found.append(f"the API server does not serve {', '.join(missing)}: are the CRDs installed (crds.enabled)?")
    except ApiError as error:
        found.append(f"the API server does not serve kubedistill.io: {error}")
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for page in ("/readyz", "/healthz", "/metrics"):
            try:
                async with session.get(f"{url}{page}") as answer:
                    if answer.status != 200:
                        found.append(f"{url}{page} answers {answer.status}: {(await answer.text())[:200].strip()}")
            except (aiohttp.ClientError, TimeoutError) as error:
                found.append(f"{url}{page} does not answer: {error or type(error).__name__}")
    return found


async def run(url: str, seconds: float, kubeconfig: str | None) -> int:
    """Tries until all is well or the time is over; returns the exit code."""
    cluster = await Cluster.connect(kubeconfig)
    end = time.monotonic() + seconds
    try:
        while found := await problems(cluster, url):
            if time.monotonic() > end:
                print("\n".join(found), file=sys.stderr)
                return 1
            await asyncio.sleep(PAUSE_S)
    finally:
        await cluster.close()
    print(f"the API server serves {', '.join(KINDS)}, and the operator answers at {url}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubedistill_operator.check", description=__doc__)
    parser.add_argument("url", help="of the operator: http://kubedistill.kubedistill.svc:8080")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to try (default 60)")
    parser.add_argument("--kubeconfig", help="outside a cluster (default: KUBECONFIG, ~/.kube/config)")
    given = parser.parse_args(argv)
    return asyncio.run(run(given.url.rstrip("/"), given.seconds, given.kubeconfig))


if __name__ == "__main__":
    sys.exit(main())
