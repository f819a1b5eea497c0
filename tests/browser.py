"""A real browser for tests of pages: Debian's Chromium, driven by Playwright.

    def test_the_page_is_quiet(watch: Watch) -> None:
        watched = watch(width=390)
        watched.page.goto(address)
        assert watched.page.get_by_role("button", name="Ask").is_visible()
        watched.assert_quiet()        # no console error, no exception, no request but to `allowed`
        watched.assert_accessible()   # axe-core: nothing serious or critical

The fixtures ``browser`` and ``watch`` are in ``tests/conftest.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.tools import tool

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = [
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

WAIT = 40_000
"""Milliseconds that anything may take: on a busy machine what is done at once takes seconds."""

_WITHIN = ("data:", "blob:", "about:")
"""Addresses that lead nowhere but into the page itself."""


@dataclass
class Watched:
    """A page, and what it complained of and asked for since it was opened."""

    page: Page
    errors: list[str] = field(default_factory=list)
    """Errors and warnings of the console, what the page's policy forbade among them, and exceptions
    that nothing caught."""
    requests: list[str] = field(default_factory=list)
    """Addresses that it, or a frame in it, asked for, the page's own first; no data: and blob:."""

    def assert_quiet(self, *allowed: str) -> None:
        """No error, and no request but to addresses that start with one of these."""
        assert self.errors == []
        assert [url for url in self.requests if not url.startswith(allowed)] == []

    def assert_accessible(self) -> None:
        """axe-core finds nothing serious or critical in the page as it stands."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        grave = [one for one in found if one["impact"] in ("serious", "critical")]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in grave] == []

    def assert_fits(self) -> None:
        """Nothing makes the page scroll sideways."""
        wide, shown = self.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide <= shown, f"{wide} CSS pixels wide, shown in {shown}"


Watch: TypeAlias = Callable[..., Watched]
"""``watch(width=1280, height=900, **options)``: a page of its own; options as Playwright's
``Browser.new_context``, such as ``color_scheme="dark"`` or ``java_script_enabled=False``."""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium; the test skips where it is not installed, and fails in CI.

    For a file of tests at a time, not for the session: as long as Playwright runs, asyncio holds
    its loop for running, and no other test could ``asyncio.run``. A start takes half a second.
    """
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT)
    program = tool("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watching(browser: Browser) -> Iterator[Watch]:
    """Pages that are watched from the start and closed at the end."""
    contexts = []

    def watch(width: int = 1280, height: int = 900, **options: Any) -> Watched:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.set_default_timeout(WAIT)
        watched = Watched(context.new_page())

        def hear(message: Any) -> None:
            if message.type in ("error", "warning"):
                watched.errors.append(f"{message.type}: {message.text}")

        def note(request: Any) -> None:
            if not request.url.startswith(_WITHIN):
                watched.requests.append(request.url)

        watched.page.on("console", hear)
        watched.page.on("pageerror", lambda error: watched.errors.append(f"uncaught: {error}"))
        watched.page.on("request", note)
        return watched

    try:
        yield watch
    finally:
        for context in contexts:
            context.close()
