"""A real Prometheus, and promtool: this machine's, else Debian's."""

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.cluster import packages
from tests.cluster.controlplane import ControlPlane, _free_port
from tests.cluster.errors import ClusterError

PACKAGE = "prometheus"


def find(name: str) -> Path:
    """`prometheus` or `promtool`. Raises `ClusterError` where they cannot be had."""
    found = shutil.which(name)
    return Path(found) if found else packages.unpacked(PACKAGE) / "usr" / "bin" / name


def promtool(*arguments: str | Path) -> str:
    """What promtool prints. Raises `ClusterError` with that where it finds something wrong."""
    command = [str(part) for part in (find("promtool"), *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


class Prometheus:
    """One that scrapes by `config`, with its data in the folder of a cluster."""

    def __init__(self, cluster: ControlPlane, config: dict[str, Any]) -> None:
        port = _free_port("127.0.0.1")
        self._url = f"http://127.0.0.1:{port}"
        self._config = config
        self._file = cluster.folder / "prometheus.yaml"
        command = [
            find("prometheus"),
            f"--config.file={self._file}",
            f"--storage.tsdb.path={cluster.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._server = cluster.server("prometheus", command)

    def __enter__(self) -> Self:
        self._file.write_text(yaml.safe_dump(self._config))
        self._server.start()
        try:
            self._server.wait_until(self._is_ready)
        except BaseException:
            self._server.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Nobody reads its data any more.
        self._server.kill()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now. Raises `ClusterError` with what is wrong with it."""
        return self._ask(f"query?{urllib.parse.urlencode({'query': expression})}")["result"]  # type: ignore[no-any-return]

    def alerts(self) -> dict[str, str]:
        """State of every alert that is pending or firing, by its name; firing where it is both."""
        alerts = sorted(self._ask("alerts")["alerts"], key=lambda alert: str(alert["state"]), reverse=True)
        return {alert["labels"]["alertname"]: alert["state"] for alert in alerts}

    def rules(self) -> dict[str, str]:
        """Health of every rule by the alert's name: `ok` once it was evaluated without an error."""
        groups = self._ask("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    def _is_ready(self) -> bool:
        try:
            self._get("/-/ready")
        except OSError:
            return False
        return True

    def _ask(self, what: str) -> Any:
        try:
            return json.loads(self._get(f"/api/v1/{what}"))["data"]
        except urllib.error.HTTPError as error:
            raise ClusterError(f"{what}: {error.read().decode(errors='replace')}") from error

    def _get(self, path: str) -> bytes:
        # No proxy: it is on this machine.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(self._url + path, timeout=10) as answer:
            return bytes(answer.read())
