"""Pictures of the page, as documents show them: ``python -m tests.web.page.pictures``.

Writes docs/page.png and docs/page-phone.png. With ``--states FOLDER`` it writes there each state of
the page instead, wide and narrow, light and dark: to look at after a change.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from medgemma_cli.demo import PHANTOM_SEED
from medgemma_cli.embedded import EmbeddedStack
from medgemma_worker.phantom.images import make_phantom
from tests.alone import on_its_own
from tests.browser import Watch, open_browser, watching
from tests.service.harness import ROOT
from tests.web.gateway import GatewayProcess
from tests.web.page.phantom import PhantomWorker
from tests.web.page.reading import key_of, report

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDE, PHONE = (1280, 872), (390, 844)
QUESTION = "Is there a finding?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=Path, metavar="FOLDER")
    folder = parser.parse_args().states
    with served() as (gateway, image, kind), open_browser() as browser, watching(browser) as watch:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for scheme in ("light", "dark"):
                for size in (WIDE, PHONE):
                    states(watch, gateway, image, kind, size, scheme, folder)
            return
        for size, name in ((WIDE, "page.png"), (PHONE, "page-phone.png")):
            page = entered(watch, gateway, size, "light")
            fill(page, image, kind)
            keep(page, ROOT / "docs" / name)


@contextmanager
def served() -> Iterator[tuple[GatewayProcess, Path, str]]:
    """The gateway, a phantom's file, and what is to be found there."""
    number = PHANTOM_SEED
    while (phantom := make_phantom(number)).kind is None:
        number += 1
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedStack() as stack,
        on_its_own(stack),
        PhantomWorker(Path(name)),
        GatewayProcess(Path(name)) as gateway,
    ):
        image = Path(name) / "chest.png"
        phantom.image.save(image)
        yield gateway, image, phantom.kind


def entered(watch: Watch, gateway: GatewayProcess, size: tuple[int, int], scheme: str) -> Page:
    scale = 2 if size == PHONE else 1
    watched = watch(*size, color_scheme=scheme, device_scale_factor=scale)
    watched.page.goto(f"{gateway.url}/#key={key_of(gateway)}")
    return watched.page


def fill(page: Page, image: Path, keyword: str, *, send: bool = True) -> None:
    page.locator("#files").set_input_files(image)
    page.get_by_role("textbox", name="Question").fill(QUESTION)
    page.get_by_role("textbox", name="Word of the answer").fill(keyword)
    if send:
        page.get_by_role("button", name="Ask", exact=True).click()
        drawn(page)


def drawn(page: Page) -> None:
    report(page).locator("figure").first.wait_for()
    page.wait_for_timeout(500)  # until the frame has its height, and its canvases are painted


def keep(page: Page, path: Path, *, whole: bool = False) -> None:
    """A picture of 256 colours, chosen so that those of the map stay what they are."""
    shot = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    shot.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


def states(
    watch: Watch,
    gateway: GatewayProcess,
    image: Path,
    kind: str,
    size: tuple[int, int],
    scheme: str,
    folder: Path,
) -> None:
    """Empty, a file chosen, under way, done, failed, and the key form."""

    def shoot(state: str, whole: bool = True) -> None:
        keep(page, folder / f"{size[0]}-{scheme}-{state}.png", whole=whole)

    page = entered(watch, gateway, size, scheme)
    page.get_by_role("button", name="Ask", exact=True).wait_for()
    shoot("1-empty")
    fill(page, image, kind, send=False)
    shoot("2-chosen")
    page.route("**/events", lambda route: None)  # as it stands while nothing is heard
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("[aria-current=step]", has_text="Waiting").wait_for()
    shoot("3-under-way", whole=False)
    page.unroute("**/events")
    page.reload()
    drawn(page)
    shoot("4-done", whole=False)
    page.get_by_role("link", name="New question").click()
    fill(page, image, "zebra", send=False)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("#job .alert").wait_for()
    shoot("5-failed")
    page.get_by_role("link", name="New question").click()
    page.locator("#jobs img").wait_for()
    shoot("6-recent")
    page.get_by_role("button", name="Forget key").click()
    shoot("7-key")


if __name__ == "__main__":
    main()
