"""The scene is played once; each test looks at what was heard of it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import redis

from medgemma_tasks.settings import load_settings
from tests.privacy.scene import Scene, Told

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedStack


@pytest.fixture(scope="session")
def told(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> Told:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.delenv(name, raising=False)
        for name, value in stack.environment().items():
            patch.setenv(name, value)
        patch.setenv("MEDGEMMA_STORE_URL", f"s3://{stack.s3.bucket}/{uuid.uuid4().hex}")
        with redis.Redis.from_url(stack.redis.url) as client:
            client.flushdb()
        return Scene(load_settings(), tmp_path_factory.mktemp("scene")).play()
