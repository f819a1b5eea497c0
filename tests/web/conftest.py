"""A gateway over the real Redis and S3, and a worker with the stub engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from medgemma_tasks.settings import Settings
from tests.alone import on_its_own
from tests.service.harness import Service, WorkerProcess, until
from tests.web.gateway import GatewayProcess

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedStack


@pytest.fixture(scope="module")
def servers(stack: EmbeddedStack) -> Iterator[Settings]:
    """Redis and S3 for the tests of a module."""
    with on_its_own(stack) as settings:
        yield settings


@pytest.fixture(scope="module")
def service(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A worker, and what a test looks at beside the gateway."""
    with WorkerProcess(tmp_path_factory.mktemp("service")) as worker:
        yield Service(servers, worker)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def gateway(servers: Settings, folder: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(folder) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def api(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    """Its callers add their header."""
    with gateway.client() as client:
        yield client


@pytest.fixture(scope="module")
def ours(gateway: GatewayProcess) -> dict[str, str]:
    """The header of a caller of tenant local."""
    return gateway.ours


@pytest.fixture(scope="module")
def theirs(gateway: GatewayProcess, api: httpx.Client) -> dict[str, str]:
    """The header of a caller of another tenant. Its key was added while the gateway ran."""
    shown = gateway.header("other")
    until(lambda: api.get("/v1/models", headers=shown).status_code == 200, 30)
    return shown
