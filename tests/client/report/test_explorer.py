"""The report in a real browser: what can be chosen, read, moved and printed."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from medgemma_client.report import render_report
from medgemma_tasks.colours import scale_to_unit, steps, table, uncoloured
from medgemma_tasks.geometry import spread
from medgemma_tasks.pictures import coverage, percent
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.browser import Watch, Watched
from tests.client.report.scenes import SCENES, volume, words

Open: TypeAlias = Callable[..., Watched]

PIXELS = "canvas => canvas.toDataURL('image/png')"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    made = {name: folder / f"{name}.html" for name in SCENES}
    for name, path in made.items():
        path.write_text(SCENES[name](), encoding="utf-8")
    return made


@pytest.fixture
def opened(watch: Watch, pages: dict[str, Path]) -> Open:
    def open_page(name: str, width: int = 1280, **options: object) -> Watched:
        watched = watch(width=width, **options)
        watched.page.goto(pages[name].as_uri())
        return watched

    return open_page


def shown_map(watched: Watched, film: int = 0) -> np.ndarray:
    """The map of a film as it is drawn, uint8 (height, width, 4)."""
    uri = watched.page.locator(".film").nth(film).locator("canvas").first.evaluate(PIXELS)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA"))


def test_each_word_of_sixty_has_a_map_of_its_own(opened: Open) -> None:
    watched = opened("words")
    buttons = watched.page.locator("#words [role=button]")
    assert buttons.count() >= 60
    seen = set()
    for number in range(buttons.count()):
        button = buttons.nth(number)
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        seen.add(shown_map(watched).tobytes())
    assert len(seen) == buttons.count()
    watched.assert_quiet(watched.page.url)


def test_a_word_is_drawn_as_python_draws_it(opened: Open) -> None:
    watched = opened("words")
    record, _, images, maps, _ = words().parts()
    watched.page.locator("#words [role=button]").nth(0).click()
    target, scores = record.targets[0], maps[0][0]
    drawn = shown_map(watched)
    height, width = drawn.shape[:2]
    x, y = width / images[0].width, height / images[0].height
    left, top, right, bottom = record.images[0].square
    values = spread(scores, (width, height), (left * x, top * y, right * x, bottom * y))
    unit = scale_to_unit(values, target.low, target.high)
    alpha = np.rint(255 * coverage(unit)).astype(int)
    assert np.abs(drawn[..., 3].astype(int) - alpha).max() <= 2
    # A canvas keeps colours multiplied by their opacity, so faint ones are rounded more.
    strong = alpha > 128
    apart = np.abs(drawn[..., :3].astype(int) - table()[steps(unit)].astype(int)).max(axis=2)
    assert strong.any()
    assert apart[strong].max() <= 4


def test_how_much_has_no_colour_is_told_as_python_tells_it(opened: Open) -> None:
    watched = opened("words")
    record, _, _, maps, _ = words().parts()
    plain = watched.page.locator(".film .share").first
    for number in (0, 1):
        button = watched.page.locator("#words [role=button]").nth(number)
        button.click()
        target, scores = record.targets[number], maps[number][0]
        part = percent(uncoloured(scores, target.low))
        said = f"{percent(target.maps[0].share)} of all relevancy, {part} of that uncoloured"
        assert plain.inner_text() == said
    watched.page.locator("input[name=scale][value=all]").check(force=True)
    least = min(target.low for target in record.targets)
    assert f", {percent(uncoloured(scores, least))} of that" in plain.inner_text()


def test_the_pointer_reads_pixels_of_the_original_and_the_records_numbers(opened: Open) -> None:
    watched = opened("words")
    record, _, images, maps, _ = words().parts()
    watched.page.locator("#words [role=button]").nth(0).click()
    film = watched.page.locator(".film .stack").first
    film.scroll_into_view_if_needed()
    box = film.bounding_box()
    assert box is not None
    width, height = images[0].size
    left, top, right, bottom = record.images[0].square
    for x, y in ((width // 5, height // 3), (width // 2, height // 2), (width - 90, height - 90)):
        watched.page.mouse.move(
            box["x"] + (x + 0.5) * box["width"] / width,
            box["y"] + (y + 0.5) * box["height"] / height,
        )
        said = watched.page.locator("#read-pixel").inner_text()
        at_x, at_y = (int(part.split()[-1]) for part in said.split(","))
        # The browser moves in CSS pixels, of which one holds several of the original.
        assert abs(at_x - x) <= width / box["width"]
        assert abs(at_y - y) <= height / box["height"]
        row = int((at_y + 0.5 - top) * 16 / (bottom - top))
        column = int((at_x + 0.5 - left) * 16 / (right - left))
        cell = watched.page.locator("#read-cell").inner_text()
        assert cell == f"row {row + 1}, column {column + 1} of 16 × 16"
        value = float(watched.page.locator("#read-value").inner_text())
        assert value == pytest.approx(float(maps[0][0][row, column]), rel=0.006)


def test_the_keyboard_alone_chooses_words_and_reads_cells(opened: Open) -> None:
    watched = opened("words")
    page = watched.page
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#words .word')"):
            break
    before = shown_map(watched).tobytes()
    page.keyboard.press("ArrowRight")
    assert shown_map(watched).tobytes() != before
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.stack')"):
            break
    page.keyboard.press("Home")
    peak = page.locator("#read-cell").inner_text()
    assert f"peak in {peak}" in page.locator(".film figcaption").first.inner_text()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#read-cell").inner_text() != peak
    expect(page.locator("#spoken")).to_contain_text("Row")
    page.keyboard.press("Escape")
    assert page.locator("#reading-hint").is_visible()


def test_slider_colours_scale_and_fine_map_change_the_picture(opened: Open) -> None:
    watched = opened("patches")
    page = watched.page
    page.locator("#opacity").fill("20")
    assert page.locator("#opacity-value").inner_text() == "20%"
    canvas = page.locator(".film canvas").first
    assert float(canvas.evaluate("canvas => getComputedStyle(canvas).opacity")) == pytest.approx(
        0.2
    )
    pictures = {shown_map(watched).tobytes()}
    palettes = page.locator("input[name=palette]")
    assert palettes.count() >= 3
    for number in range(1, palettes.count()):
        palettes.nth(number).check(force=True)
        pictures.add(shown_map(watched).tobytes())
    page.locator("input[name=grid][value=fine]").check(force=True)
    pictures.add(shown_map(watched).tobytes())
    page.locator("input[name=scale][value=all]").check(force=True)
    pictures.add(shown_map(watched).tobytes())
    assert len(pictures) == palettes.count() + 2
    watched.assert_quiet(page.url)


def test_a_volume_is_scrolled_and_jumps_to_its_peak(opened: Open) -> None:
    watched = opened("volume")
    page = watched.page
    _, _, _, maps, _ = volume().parts()
    peak = int(maps[0].max(axis=(1, 2)).argmax())
    visible = page.locator(".film:visible")
    assert visible.count() == 1
    page.locator("#slice").fill("3")
    assert visible.get_attribute("data-image") == "2"
    assert page.locator("#slice-value").inner_text() == "3 of 40"
    page.locator("#to-peak").click()
    assert visible.get_attribute("data-image") == str(peak)
    visible.locator(".stack").focus()
    page.keyboard.press("PageDown")
    assert visible.get_attribute("data-image") == str(peak + 1)


def test_a_printed_volume_has_its_six_best_slices_in_two_rows(opened: Open) -> None:
    page = opened("volume", width=720).page  # CSS pixels: A4 without its margins
    page.emulate_media(media="print")
    films = page.locator(".film:visible")
    tops = [films.nth(k).bounding_box() for k in range(films.count())]
    assert len(tops) == 6
    assert len({round(box["y"]) for box in tops if box}) == 2
    assert not page.locator("#slices").is_visible()


def test_text_from_right_to_left_begins_on_the_right(opened: Open) -> None:
    page = opened("rtl").page
    question = page.locator(".said .text").first
    chip, said = question.locator(".chip"), question.locator(".part")
    right = chip.bounding_box()
    left = said.bounding_box()
    assert right is not None
    assert left is not None
    assert right["x"] > left["x"] + left["width"] - 1
    for tokens in page.locator("#tokens .tokens").all():
        expect(tokens).to_have_css("direction", "rtl")


def test_the_scale_says_what_its_colours_are_not(opened: Open) -> None:
    page = opened("words").page
    told = page.locator("#span")
    expect(told).to_contain_text("not a probability")
    expect(told.get_by_text("this map alone")).to_be_visible()
    page.locator("[name=scale][value=all]").check()
    expect(told.get_by_text("can so be compared")).to_be_visible()
    expect(told.get_by_text("this map alone")).to_be_hidden()


def test_in_the_readers_own_colours_measures_and_what_is_chosen_still_show(opened: Open) -> None:
    page = opened("words", forced_colors="active").page
    ground = "element => getComputedStyle(element).backgroundColor"
    word, other = page.locator("#words .chosen"), page.locator("#words .word:not(.chosen)").first
    assert word.evaluate(ground) != other.evaluate(ground)
    zones = {zone.evaluate(ground) for zone in page.locator(".zone").all()}
    parts = {part.evaluate(ground) for part in page.locator("#shares span").all()}
    assert len(zones) > 2
    assert len(parts) == 4
    picked, rest = page.locator("[name=scale] + span").all()
    assert picked.evaluate(ground) != rest.evaluate(ground)


def test_without_javascript_the_first_map_is_shown(opened: Open) -> None:
    watched = opened("words", java_script_enabled=False)
    assert watched.page.locator("img.layer").is_visible()
    assert not watched.page.locator("#tools").is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", sorted(SCENES))
def test_every_page_fits_a_phone_and_is_accessible(opened: Open, name: str, theme: str) -> None:
    watched = opened(name, width=390, color_scheme=theme)
    watched.assert_fits()
    watched.assert_accessible()
    watched.assert_quiet(watched.page.url)


def test_it_works_from_the_store_by_a_presigned_address(
    watch: Watch, pages: dict[str, Path], stack_settings: Settings
) -> None:
    store = Store(stack_settings)
    kind = "text/html; charset=utf-8"
    store.put("local/reports/words.html", pages["words"].read_bytes(), kind)
    address = store.presigned("local/reports/words.html", kind, 60)
    watched = watch()
    watched.page.goto(address)
    first = shown_map(watched).tobytes()
    watched.page.locator("#words [role=button]").nth(20).click()
    assert shown_map(watched).tobytes() != first
    watched.assert_quiet(address)


def test_it_works_in_a_frame_that_may_run_scripts_alone(
    watch: Watch, pages: dict[str, Path]
) -> None:
    watched = watch()
    watched.page.set_content("<iframe sandbox='allow-scripts' width=1000 height=900></iframe>")
    watched.page.evaluate(
        "text => { document.querySelector('iframe').srcdoc = text }", pages["words"].read_text()
    )
    frame = watched.page.frame_locator("iframe")
    frame.locator("#words [role=button]").nth(5).click()
    assert frame.locator("#words [aria-pressed=true]").count() == 1
    watched.assert_quiet()


def test_an_xray_with_sixty_words_takes_less_than_three_megabytes(pages: dict[str, Path]) -> None:
    assert len(words().answer.split()) >= 60
    assert pages["words"].stat().st_size < 3_000_000
    assert len(render_report(*words((2048, 2500), patches=64).parts()).encode()) < 3_000_000
