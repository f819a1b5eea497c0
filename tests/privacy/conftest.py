"""The scene is played once; each test looks at what was heard of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.alone import on_its_own
from tests.privacy.scene import Scene, Told

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedStack


@pytest.fixture(scope="session")
def told(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> Told:
    with on_its_own(stack) as settings:
        return Scene(settings, tmp_path_factory.mktemp("scene")).play()
