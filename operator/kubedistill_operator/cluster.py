"""The API server, spoken to in JSON.

`kubernetes.aio` gives the configuration, the credentials and the connection; its typed layer is left out, because
checking every answer against a model of it costs more than all else that the operator does.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient

from kubedistill_api.base import GROUP, VERSION
from kubedistill_operator.kinds import PLURALS

Object = dict[str, Any]

MANAGER = "kubedistill"
TRIES = 6
BACKOFF_S = 0.2
LONGEST_WAIT_S = 30.0
TIMEOUT_S = 30.0
PAGE = 100

ESCAPES = {
    **{code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0xFEFF, 0xFFFE, 0xFFFF)},
    **dict.fromkeys(range(0xD800, 0xE000), "\\ufffd"),
}
"""Characters that YAML takes only escaped. Those beyond 16 bits, as emojis, are the other way about: JSON escapes them
as two surrogates, which YAML refuses. Half of such a pair is no character."""

PATHS: Mapping[str, tuple[str, str]] = {
    **{kind: (f"apis/{GROUP}/{VERSION}", plural) for kind, plural in PLURALS.items()},
    "Job": ("apis/batch/v1", "jobs"),
    "Pod": ("api/v1", "pods"),
    "Service": ("api/v1", "services"),
    "ConfigMap": ("api/v1", "configmaps"),
    "Event": ("api/v1", "events"),
    "Node": ("api/v1", "nodes"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
}


class ApiError(Exception):
    """The API server refused. `status` is the HTTP status, `reason` Kubernetes' own."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFound(ApiError):
    """The object, or its namespace, is not there, or not for long."""


class Conflict(ApiError):
    """The object changed since it was read, or exists already, or is not the one that was meant."""


class Unavailable(ApiError):
    """The API server did not answer, or asked to come back later, more often than is worth waiting for."""

    retry_after: float | None = None
    """Seconds that it asked to wait."""


class Cluster:
    """A connection. Requests that may be repeated are, upon 429, 5xx and lost connections."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.writes: Counter[str] = Counter()
        """Requests that changed something, by resource: `jobs`."""

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> "Cluster":
        """By the pod's service account, else by `kubeconfig` or KUBECONFIG."""
        if kubeconfig is None:
            try:
                config.load_incluster_config()  # type: ignore[no-untyped-call]
                return cls(_client())
            except config.ConfigException:
                pass
        await config.load_kube_config(config_file=kubeconfig)  # type: ignore[no-untyped-call]
        return cls(_client())

    @property
    def configuration(self) -> Any:
        return self._client.configuration

    async def close(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, kind: str, namespace: str | None, name: str) -> Object:
        return await self._request("GET", path(kind, namespace, name))

    async def list_all(self, kind: str, namespace: str | None = None, **query: str) -> tuple[list[Object], int]:
        """Every object, and the version of the list: what is newer than that may be missing in it."""
        pages = [page async for page in self.pages(kind, namespace, **query)]
        return [item for items, _ in pages for item in items], pages[-1][1]

    async def pages(
        self, kind: str, namespace: str | None = None, **query: str
    ) -> AsyncIterator[tuple[list[Object], int]]:
        """The same page by page, for who need not hold all of them at once; each with the version of the list."""
        more: dict[str, str] = {"limit": str(PAGE)}
        while True:
            answer = await self._request("GET", path(kind, namespace), {**query, **more})
            more["continue"] = answer["metadata"].get("continue", "")
            items, listed_at = answer.pop("items"), int(answer["metadata"]["resourceVersion"])
            yield items, listed_at
            del items
            if not more["continue"]:
                return

    async def served_kinds(self) -> frozenset[str]:
        """The kinds of kubedistill's API that the API server serves. Raises NotFound where it serves none."""
        answer = await self._request("GET", f"apis/{GROUP}/{VERSION}")
        return frozenset(str(resource["kind"]) for resource in answer["resources"])

    async def namespace_labels(self, name: str) -> Mapping[str, str]:
        """Raises NotFound."""
        return (await self._request("GET", f"api/v1/namespaces/{name}"))["metadata"].get("labels") or {}

    async def create(self, item: Object) -> Object:
        """Raises Conflict when it exists."""
        metadata = item["metadata"]
        return await self._request(
            "POST", path(item["kind"], metadata.get("namespace")), {"fieldManager": MANAGER}, item
        )

    async def apply(self, item: Object, subresource: str = "") -> Object:
        """Server-side apply. Where the metadata has a resourceVersion, raises Conflict unless it is still that."""
        metadata = item["metadata"]
        target = path(item["kind"], metadata.get("namespace"), metadata["name"]) + subresource
        return await self._request("PATCH", target, {"fieldManager": MANAGER, "force": "true"}, item)

    async def replace(self, item: Object) -> Object:
        """Raises Conflict when it changed since it was read."""
        metadata = item["metadata"]
        return await self._request("PUT", path(item["kind"], metadata.get("namespace"), metadata["name"]), {}, item)

    async def delete(self, kind: str, namespace: str, name: str, preconditions: Object) -> None:
        """Deletes the object with what belongs to it; it stays until its dependents are gone. A no-op where it is
        not there. Raises Conflict when it is not the one of the `preconditions`."""
        body = {"propagationPolicy": "Foreground", "preconditions": preconditions}
        try:
            await self._request("DELETE", path(kind, namespace, name), {}, body)
        except NotFound:
            return

    async def _request(
        self, method: str, target: str, query: Mapping[str, str] | None = None, body: Object | None = None
    ) -> Object:
        url = f"{self._client.configuration.host}/{target}" + (f"?{urlencode(query)}" if query else "")
        wait = BACKOFF_S
        for left in range(TRIES - 1, -1, -1):
            try:
                answer = await self._once(method, url, body)
                if method != "GET":
                    self.writes[_resource(target)] += 1
                return answer
            except (Unavailable, aiohttp.ClientError, TimeoutError) as error:
                if not left:
                    raise Unavailable(503, "ServiceUnavailable", f"{method} {target}: {error}") from error
                asked = getattr(error, "retry_after", None)
                await asyncio.sleep(min(LONGEST_WAIT_S, asked or wait * (0.5 + random.random())))
                wait *= 2
        raise AssertionError("unreachable")

    async def _once(self, method: str, url: str, body: Object | None) -> Object:
        headers = {"Accept": "application/json"}
        headers["Content-Type"] = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], url, method, body)
        rest = self._client.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()
        data = None if body is None else encoded(body)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with rest.pool_manager.request(method, url, headers=headers, data=data, timeout=timeout) as response:
            text = await response.read()
            if response.status < 300:
                return json.loads(text)  # type: ignore[no-any-return]
            raise _error(response.status, text, response.headers.get("Retry-After"))


def _client() -> ApiClient:
    """With the proxy that the configuration names and no other, as kopf does. The client's own way asks the environment
    and ~/.netrc at every request, each in a thread; and what a .netrc says would stand against the token."""
    client = ApiClient()
    client.configuration.client_session_kwargs = {"trust_env": False, "proxy": client.configuration.proxy}
    return client


def encoded(body: Object) -> bytes:
    """JSON that a YAML parser reads as well, which is what the API server has for server-side apply."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return text.translate(ESCAPES).encode()


def path(kind: str, namespace: str | None = None, name: str = "") -> str:
    """`apis/batch/v1/namespaces/team-a/jobs/demo`."""
    group, plural = PATHS[kind]
    middle = f"/namespaces/{namespace}" if namespace and kind != "ClusterDistillationRuntime" else ""
    return f"{group}{middle}/{plural}" + (f"/{name}" if name else "")


def _resource(target: str) -> str:
    """`jobs` of `apis/batch/v1/namespaces/team-a/jobs/demo`."""
    parts = target.split("/")
    if "namespaces" in parts[:-2]:
        return parts[parts.index("namespaces") + 2]
    return parts[2 if parts[0] == "api" else 3]


def _error(status: int, text: bytes, retry_after: str | None) -> ApiError:
    causes: set[str] = set()
    try:
        answer = json.loads(text)
        reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))
        causes = {str(cause.get("reason")) for cause in (answer.get("details") or {}).get("causes") or ()}
    except (ValueError, AttributeError):
        reason, message = "", text[:500].decode(errors="replace")
    if status == 404 or "NamespaceTerminating" in causes:
        return NotFound(status, reason, message)
    if status == 409:
        return Conflict(status, reason, message)
    if status == 429 or status >= 500:
        error = Unavailable(status, reason, message)
        error.retry_after = float(retry_after) if retry_after and retry_after.isdecimal() else None
        return error
    return ApiError(status, reason, message)
