"""One service for a module, and a private one for tests that break theirs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from medgemma_tasks.settings import Settings, load_settings
from tests.service.harness import Service, WorkerProcess

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedStack


@pytest.fixture(scope="module")
def service_settings(stack: EmbeddedStack) -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.delenv(name, raising=False)
        for name, value in stack.environment().items():
            patch.setenv(name, value)
        patch.setenv("MEDGEMMA_STORE_URL", f"s3://{stack.s3.bucket}/{uuid.uuid4().hex}")
        with redis.Redis.from_url(stack.redis.url) as client:
            client.flushdb()
        yield load_settings()


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
