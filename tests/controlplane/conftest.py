"""A real API server for all tests of this folder, and a namespace for each."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.cluster.controlplane import ControlPlane
from tests.cluster.kwok import Kwok
from tests.controlplane import operator_case


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """etcd, API server, controller manager and scheduler, with the CRDs installed; no nodes."""
    with ControlPlane(scheduler=True) as cluster:
        cluster.install_crds()
        yield cluster


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own, deleted after it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def kwok(control_plane: ControlPlane) -> Iterator[Kwok]:
    """Nodes that are played: pods bound to them run, and complete, without running anything."""
    with Kwok(control_plane) as kwok:
        yield kwok


@pytest.fixture
async def case(control_plane: ControlPlane, namespace: str) -> AsyncIterator[operator_case.Case]:
    """A namespace with a player of nodes, ready for an operator."""
    async with operator_case.case(str(control_plane.kubeconfig), namespace) as one:
        yield one
