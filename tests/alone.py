"""The servers of the session for one alone: Redis emptied, and a prefix of its own in the store."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import redis

from medgemma_tasks.settings import Settings, load_settings

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedStack


@contextmanager
def on_its_own(stack: EmbeddedStack) -> Iterator[Settings]:
    """The settings, which the environment holds as long as the context lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.delenv(name, raising=False)
        for name, value in stack.environment().items():
            patch.setenv(name, value)
        patch.setenv("MEDGEMMA_STORE_URL", f"s3://{stack.s3.bucket}/{uuid.uuid4().hex}")
        with redis.Redis.from_url(stack.redis.url) as client:
            client.flushdb()
        yield load_settings()
