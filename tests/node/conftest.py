"""A real node for all tests of this folder, and a tenant's namespace for each."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.host_runtime import host_runtime
from tests.cluster.node import Node, why_not
from tests.node.node_case import NodeCase


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A node with the CRDs and the ClusterDistillationRuntime `host`. Skips where there can be none, but not in CI."""
    if reason := why_not():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI=true asks for one")
        pytest.skip(reason)
    with Node() as node:
        node.cluster.install_crds()
        node.cluster.apply(host_runtime(sampler={"replicas": 2}, trainer={"replicas": 2}))
        yield node


@pytest.fixture
def tenant(node: Node) -> Iterator[str]:
    """A namespace of the test's own under the `restricted` level, with the claims of the runtime `host`."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    node.add_tenant(name)
    yield name
    node.remove_tenant(name)


@pytest.fixture
def case(node: Node, tenant: str, tmp_path: Path) -> Iterator[NodeCase]:
    """The tenant with an operator of its own."""
    case = NodeCase(node, tenant, tmp_path / "operator.log")
    case.start_operator()
    yield case
    case.end()
