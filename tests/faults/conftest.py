"""A scene for each test: a Redis database, and a store prefix behind a proxy, of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medgemma_tasks.settings import Settings, load_settings
from medgemma_tasks.store import Store
from tests.faults.s3_proxy import S3Proxy
from tests.faults.scene import Scene

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedRedis, EmbeddedS3


@pytest.fixture
def conditional() -> bool:
    """Whether the store enforces conditional puts; a test may say that it does not."""
    return True


@pytest.fixture
def own_redis(stack_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedRedis]:
    """A Redis server that this test alone uses. To be asked for before the scene."""
    from medgemma_cli.embedded import EmbeddedRedis

    with EmbeddedRedis() as server:
        monkeypatch.setenv("MEDGEMMA_BROKER_URL", server.url)
        yield server


@pytest.fixture
def scene(
    stack_settings: Settings,
    s3_server: EmbeddedS3,
    conditional: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    straight = Store(stack_settings)
    start = f"/{stack_settings.bucket}/{stack_settings.prefix}"

    def exists(path: str) -> bool:
        return straight.exists(path.removeprefix(start))

    with S3Proxy(s3_server.port, exists if conditional else None) as proxy:
        monkeypatch.setenv("MEDGEMMA_S3_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        yield Scene(load_settings(), proxy, straight, tmp_path)
    # Past S3, which takes a minute for so many: nobody asks for this prefix again.
    folder = s3_server.folder / "buckets" / stack_settings.bucket / stack_settings.prefix
    shutil.rmtree(folder, ignore_errors=True)
