"""One service for a module, and a private one for tests that break theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medgemma_tasks.settings import Settings
from tests.alone import on_its_own
from tests.service.harness import Service, WorkerProcess

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedStack


@pytest.fixture(scope="module")
def service_settings(stack: EmbeddedStack) -> Iterator[Settings]:
    with on_its_own(stack) as settings:
        yield settings


@pytest.fixture(scope="module")
def service(
    service_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A running service, shared by the tests of a module."""
    with WorkerProcess(tmp_path_factory.mktemp("service")) as worker:
        yield Service(service_settings, worker)


@pytest.fixture
def idle(stack_settings: Settings, tmp_path: Path) -> Service:
    """A service of the test's own whose worker has not been started."""
    return Service(stack_settings, WorkerProcess(tmp_path))
