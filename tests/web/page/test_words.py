"""From the start to the map of a word, with the phantom model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from medgemma_cli.demo import PHANTOM_SEED
from medgemma_tasks.settings import Settings
from medgemma_worker.phantom.images import make_phantom
from tests.browser import Watch
from tests.service.harness import WorkerProcess
from tests.web.gateway import GatewayProcess
from tests.web.page.phantom import PhantomWorker
from tests.web.page.reading import key_of, report


@pytest.fixture(scope="module")
def phantom_worker(servers: Settings, folder: Path) -> Iterator[WorkerProcess]:
    with PhantomWorker(folder) as worker:
        yield worker


@pytest.fixture
def phantom(tmp_path: Path) -> Path:
    number = PHANTOM_SEED
    while make_phantom(number).kind is None:
        number += 1
    path = tmp_path / "phantom.png"
    make_phantom(number).image.save(path)
    return path


@pytest.mark.usefixtures("phantom_worker")
def test_the_keyboard_alone_leads_from_the_key_to_the_report(
    watch: Watch, gateway: GatewayProcess, phantom: Path
) -> None:
    watched = watch(reduced_motion="reduce")
    page, keys = watched.page, watched.page.keyboard
    page.on("filechooser", lambda chooser: chooser.set_files(phantom))
    page.goto(gateway.url)
    keys.type(key_of(gateway))
    keys.press("Enter")
    expect(page.locator("#ask h2")).to_be_focused()
    keys.press("Tab")
    expect(page.locator("#files")).to_be_focused()
    keys.press("Enter")
    expect(page.locator("#chosen")).to_contain_text("phantom.png")
    keys.press("Tab")
    expect(page.get_by_role("button", name="Remove phantom.png")).to_be_focused()
    keys.press("Tab")
    keys.type("Is there a finding?")
    keys.press("Tab")
    expect(page.get_by_role("textbox", name="Word of the answer")).to_be_focused()
    keys.press("Tab")
    expect(page.get_by_role("checkbox", name="Every word")).to_be_focused()
    keys.press("Tab")
    keys.press("Enter")
    frame = report(page)
    frame.locator("#words .word").first.wait_for()
    expect(page.locator("#job h2")).to_be_focused()
    for name in ("Open on its own", "Download", "New question"):
        keys.press("Tab")
        expect(page.get_by_role("link", name=name)).to_be_focused()
    keys.press("Tab")
    title = frame.locator("#title")
    before = title.inner_text()
    keys.press("ArrowLeft")
    expect(title).not_to_have_text(before)
    watched.assert_quiet(gateway.url)


@pytest.mark.usefixtures("phantom_worker")
def test_each_word_of_the_report_shows_a_map_of_its_own(
    watch: Watch, gateway: GatewayProcess, phantom: Path
) -> None:
    watched = watch(width=390, height=844)
    page = watched.page
    page.goto(f"{gateway.url}/#key={key_of(gateway)}")
    page.locator("#files").set_input_files(phantom)
    page.get_by_role("textbox", name="Question").fill("Is there a finding?")
    page.get_by_role("button", name="Ask", exact=True).click()
    frame = report(page)
    expect(frame.locator("#title")).to_contain_text("There is a consolidation")
    words = frame.locator("#words .word")
    maps = set()
    for word in words.all():
        word.click()
        expect(frame.locator("#title")).to_contain_text(word.inner_text())
        maps.add(frame.locator("canvas.map").evaluate("canvas => canvas.toDataURL()"))
    assert len(maps) == words.count() > 5
    words.last.press("ArrowLeft")
    expect(frame.locator("#title")).to_contain_text(words.nth(-2).inner_text())
    # The frame is as tall as what it shows: the page alone scrolls.
    tall = frame.locator("html").evaluate("root => root.scrollHeight")
    expect(page.locator("#frame")).to_have_css("height", f"{tall}px")
    watched.assert_fits()
    watched.assert_quiet(gateway.url)
