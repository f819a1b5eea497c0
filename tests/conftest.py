"""Real parts for every test that asks: one Redis and one S3 server a session."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from medgemma_tasks.errors import PartMissing
from medgemma_tasks.settings import Settings, load_settings
from tests.browser import Watch, open_browser, watching

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from medgemma_cli.embedded import EmbeddedRedis, EmbeddedS3, EmbeddedStack

_databases = count(1)


@pytest.fixture(scope="session")
def stack() -> Iterator[EmbeddedStack]:
    """Both servers. A missing part skips, but fails in CI: there it would hide the tests."""
    from medgemma_cli.embedded import EmbeddedStack  # only tests that ask for servers pay for it

    embedded = EmbeddedStack()
    try:
        embedded.__enter__()
    except PartMissing as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(error.message)
    try:
        if not embedded.redis.real and os.environ.get("CI") == "true":
            pytest.fail("CI needs a real redis-server, not fakeredis")
        yield embedded
    finally:
        embedded.__exit__(None, None, None)


@pytest.fixture(scope="session")
def redis_server(stack: EmbeddedStack) -> EmbeddedRedis:
    return stack.redis


@pytest.fixture(scope="session")
def s3_server(stack: EmbeddedStack) -> EmbeddedS3:
    return stack.s3


@pytest.fixture
def stack_settings(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings by the environment, with a Redis database and a store prefix of the test's own."""
    database = next(_databases) % 63 + 1
    broker_url = stack.redis.url.removesuffix("/0") + f"/{database}"
    for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MEDGEMMA_BROKER_URL", broker_url)
    monkeypatch.setenv("MEDGEMMA_STORE_URL", f"s3://{stack.s3.bucket}/{uuid.uuid4().hex}")
    with redis.Redis.from_url(broker_url) as client:
        client.flushdb()
    return load_settings()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one file of tests."""
    with open_browser() as opened:
        yield opened


@pytest.fixture
def watch(browser: Browser) -> Iterator[Watch]:
    """Opens pages that are watched, and closes them: see ``tests.browser``."""
    with watching(browser) as opened:
        yield opened


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts an ``nvidia-smi`` of the test's making alone on PATH: what it says, how it exits."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(says: str, status: int = 0) -> None:
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
        program.chmod(0o755)

    return install
