"""What a test reads of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser import Watched

if TYPE_CHECKING:
    from playwright.sync_api import FrameLocator, Page

    from tests.web.gateway import GatewayProcess


def key_of(gateway: GatewayProcess) -> str:
    return gateway.ours["Authorization"].removeprefix("Bearer ")


def report(page: Page) -> FrameLocator:
    """The report, once it is shown."""
    page.locator("#frame").wait_for()
    return page.frame_locator("#frame")


def trouble(page: Page) -> str:
    """What the page says went wrong."""
    box = page.locator(".alert:visible")
    box.wait_for()
    return box.inner_text()


def job_in(page: Page) -> str:
    """The job that the address names."""
    page.wait_for_url("**/#job=*")
    return page.url.partition("#job=")[2]


def assert_only_refused(watched: Watched, *addresses: str) -> None:
    """Chromium writes a line for each refusal, and there is no other."""
    watched.errors[:] = [line for line in watched.errors if "Failed to load resource" not in line]
    watched.assert_quiet(*addresses)
