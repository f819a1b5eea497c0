"""A gateway in this process, over the real Redis and S3 and a worker with the stub engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from medgemma_tasks.settings import Settings
from medgemma_web.app import make_app
from medgemma_web.keys import KeyRing, add_key
from medgemma_web.settings import WebSettings
from tests.alone import on_its_own
from tests.service.harness import Service, WorkerProcess

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedStack


@pytest.fixture(scope="module")
def service(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A worker, and what a test looks at beside the gateway."""
    with (
        on_its_own(stack) as settings,
        WorkerProcess(tmp_path_factory.mktemp("service")) as worker,
    ):
        yield Service(settings, worker)


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def ours(keys_file: Path) -> dict[str, str]:
    """The header of a caller of tenant local."""
    return header(keys_file, "local")


@pytest.fixture(scope="module")
def theirs(keys_file: Path) -> dict[str, str]:
    """The header of a caller of another tenant."""
    return header(keys_file, "other")


@pytest.fixture(scope="module")
def api(
    service: Service, keys_file: Path, ours: dict[str, str], theirs: dict[str, str]
) -> Iterator[TestClient]:
    """The gateway; callers add their header."""
    with TestClient(application(service.settings, keys_file), raise_server_exceptions=False) as api:
        yield api


def application(settings: Settings, keys_file: Path, **web: object):  # type: ignore[no-untyped-def]
    """The application with settings of its own."""
    return make_app(settings, WebSettings(**web), KeyRing(keys_file))  # type: ignore[arg-type]


def header(keys_file: Path, tenant: str, **limits: int) -> dict[str, str]:
    token, _ = add_key(keys_file, tenant, **limits)  # type: ignore[arg-type]
    return {"Authorization": f"Bearer {token}"}
