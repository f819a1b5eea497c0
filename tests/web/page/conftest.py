"""The page in a real Chromium, at a real gateway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.browser import Watch, Watched
from tests.parts import picture
from tests.web.gateway import GatewayProcess
from tests.web.page.reading import key_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

Enter: TypeAlias = "Callable[..., Watched]"
"""``enter(job="", **options)``: the page, entered with a key in its address."""


@pytest.fixture
def enter(watch: Watch, gateway: GatewayProcess) -> Enter:
    def enter(job: str = "", **options: object) -> Watched:
        watched = watch(**options)
        fragment = f"key={key_of(gateway)}" + (f"&job={job}" if job else "")
        watched.page.goto(f"{gateway.url}/#{fragment}")
        return watched

    return enter


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "chest.png"
    picture((64, 48)).save(path)
    return path


@pytest.fixture
def ask(image: Path) -> Callable[..., None]:
    """Fill the form and send it."""

    def ask(page: Page, prompt: str, *, keyword: str = "", file: Path | None = None) -> None:
        page.locator("#files").set_input_files(image if file is None else file)
        page.get_by_role("textbox", name="Question").fill(prompt)
        page.get_by_role("textbox", name="Word of the answer").fill(keyword)
        page.get_by_role("button", name="Ask", exact=True).click()

    return ask
