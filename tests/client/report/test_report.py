"""The report is true to its record: the right words, and the map in the right place."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from PIL import Image

from medgemma_client.report import render_report
from medgemma_tasks.colours import table
from medgemma_tasks.models import Consistency, ErrorRecord, ImageMap, Span, State
from medgemma_tasks.pictures import peak_cell
from tests.client.report.samples import ANSWER, JOB, NODULE, Page, failed, make, picture


def test_the_page_says_question_answer_and_how_it_was_made() -> None:
    text = Page(render_report(*make())).text
    for words in (
        *("Is there a nodule?", ANSWER, "Research use, not for diagnosis", JOB),
        *("google/medgemma-1.5-4b-it", "e9792da5", "bfloat16", "NVIDIA H200", "torch 2.11.0"),
        *("relevancy, version 7", "generating 4.21", "40.0%", "30.0%", "20.0%", "10.0%"),
    ):
        assert words in text


def test_of_a_study_the_page_says_what_was_shown_and_left_out_even_where_the_job_failed() -> None:
    notes = ("Shown: series 1 of 2 (CT, 85 slices).", "Left out: series 2: CT, 1 image, localizer.")
    pages = [
        render_report(*make(request={"notes": notes})),
        render_report(failed(), make(request={"notes": notes})[1], [], []),
    ]
    for page in map(Page, pages):
        assert all(note in page.text for note in notes)
    assert "study" not in Page(render_report(*make())).text


def test_the_target_is_marked_in_the_answer() -> None:
    assert Page(render_report(*make())).marked == "nodule"


def test_a_target_that_is_the_whole_answer_marks_no_word() -> None:
    whole = Span(
        kind="answer", text=ANSWER, token_positions=(302, 303), tokens=("a", "b"),
        char_start=0, char_end=len(ANSWER),
    )  # fmt: skip
    page = Page(render_report(*make(spans=(whole,))))
    assert page.marked == ""
    assert "the whole answer" in page.text


def test_spans_that_overlap_or_reach_beyond_the_answer_lose_no_text() -> None:
    spans = (
        NODULE,
        NODULE.model_copy(update={"char_start": 14, "char_end": 999}),
        NODULE.model_copy(update={"char_start": None, "char_end": None}),
    )
    page = Page(render_report(*make(spans=spans)))
    assert page.marked == "nodule"
    for target in ("0", "1", "2"):  # those that are no word of their own stand beside the answer
        assert len(page.all("span", **{"data-targets": target})) == 1
    assert ANSWER in page.text


def test_the_map_shows_without_javascript() -> None:
    page = Page(render_report(*make()))
    (layer,) = page.all("img", **{"class": "layer"})
    assert (layer["src"] or "").startswith("data:image/png")
    for tool in page.all("div", **{"class": "tool"}):
        assert "hidden" in tool  # a slider that does nothing is not shown
    assert len(page.all("div", **{"class": "tool"})) == 2


def test_the_slider_can_be_used_from_the_keyboard() -> None:
    page = Page(render_report(*make()))
    (slider,) = page.all("input", id="opacity")
    assert slider["type"] == "range"
    assert page.all("label", **{"for": "opacity"})


def test_the_layer_has_its_largest_value_where_the_cell_lies() -> None:
    (size,) = sizes = ((200, 300),)
    page = Page(render_report(*make(sizes=sizes)))
    layer = picture(page.all("img", **{"class": "layer"})[0]["src"])
    assert layer.width / layer.height == pytest.approx(size[0] / size[1], rel=0.02)
    row, column = np.unravel_index(np.argmax(np.asarray(layer)), (layer.height, layer.width))
    # Cell (8, 7) of a grid of 16 over the 300-pixel square around the image.
    assert (column + 0.5) / layer.width * 200 == pytest.approx(7.5 * 300 / 16 - 50, abs=9)
    assert (row + 0.5) / layer.height * 300 == pytest.approx(8.5 * 300 / 16, abs=9)
    colours = np.asarray(layer.convert("RGBA"))
    assert tuple(colours[row, column]) == (*table()[255], 255)
    (mark,) = page.all("svg", **{"class": "peak"})
    left, top = map(float, re.findall(r"([\d.]+)%", mark["style"] or ""))
    assert (left, top) == pytest.approx((100 * (7.5 * 300 / 16 - 50) / 200, 100 * 8.5 / 16))


def test_the_image_below_the_map_is_the_one_given() -> None:
    record, request, _, maps = make(sizes=((40, 30),))
    image = Image.fromarray(np.arange(1200, dtype=np.uint32).astype(np.uint8).reshape(30, 40))
    page = Page(render_report(record, request, [image], maps))
    shown = picture(page.all("img", **{"class": "base"})[0]["src"])
    assert np.array_equal(np.asarray(shown.convert("L")), np.asarray(image))


def test_a_peak_outside_of_the_image_is_told_and_not_marked() -> None:
    maps = np.zeros((1, 16, 16), np.float32)
    maps[0, 0, 0] = 1
    page = Page(render_report(*make(sizes=((100, 600),), maps=maps)))
    assert all("hidden" in mark for mark in page.all("svg", **{"class": "peak"}))
    assert "outside of the image" in page.text


@pytest.mark.parametrize(
    ("side", "letters"), [("patient-right", ["R", "L"]), ("patient-left", ["L", "R"])]
)
def test_sides_stand_left_and_right_where_known(side: str, letters: list[str]) -> None:
    html = render_report(*make(side=side))
    assert re.findall(r'class="side"[^>]*>([RL])<', html) == letters
    assert "side unknown" not in html


def test_an_unknown_side_is_told_and_gets_no_letter() -> None:
    page = Page(render_report(*make(side="unknown")))
    assert not page.all("span", **{"class": "side"})
    assert "side unknown" in page.text


def test_the_legend_prints_the_real_values() -> None:
    record, *rest = make()
    text = Page(render_report(record, *rest)).text
    assert f"{record.targets[0].low:.3g}" in text
    assert "0.0748" in text


def test_how_much_of_the_map_has_no_colour_is_told_beside_it() -> None:
    scores = np.full((1, 16, 16), 0.5, np.float32)
    scores[0, 3, 3] = 1.0
    page = Page(render_report(*make(maps=scores)))
    assert f", {256 * 0.5 / (256 * 0.5 + 0.5):.1%} of that uncoloured" in page.text


def test_a_flat_map_is_told_and_not_drawn() -> None:
    page = Page(render_report(*make(maps=np.full((1, 16, 16), 0.25, np.float32))))
    assert not page.all("img", **{"class": "layer"})
    assert all("hidden" in mark for mark in page.all("svg", **{"class": "peak"}))
    assert "Flat map: every cell has the relevancy 0.25" in page.text


def test_special_tokens_and_the_position_before_the_target_are_on_no_scale() -> None:
    html = render_report(*make())
    page = Page(html)
    tokens = page.all("span", **{"class": "token"})
    assert [token.get("style") for token in tokens] == [
        None,
        *("--u: 0.0", "--u: 1.0", None, "--u: 0.0"),
    ]
    assert "special" in (tokens[0]["class"] or "")
    assert "Is there" in page.text
    ends = re.search(r"legend words.*?<span>(.*?)</span><span>(.*?)</span>", html)
    assert ends is not None
    assert ends.groups() == ("0.25", "0.75")  # not the 9.0 of <bos>


def test_misses_of_the_consistency_check_are_told_loudly() -> None:
    page = Page(render_report(*make(consistency=Consistency(checked=9, misses=2))))
    assert page.all("section", **{"class": "alert", "role": "alert"})
    assert "2 of 9 checked tokens" in page.text


@pytest.mark.parametrize("check", [None, Consistency(checked=0, misses=0)])
def test_a_check_that_was_not_made_is_not_passed_off_as_one(check: Consistency | None) -> None:
    text = Page(render_report(*make(consistency=check))).text
    assert "was not checked" in text
    assert "Consistent" not in text


def test_a_failed_job_gets_a_page_with_the_reason() -> None:
    _, request, images, _ = make()
    error = ErrorRecord(
        code="keyword_not_in_answer",
        message="The answer has no <b>mass</b>.",
        details={"answer": "The lungs are clear."},
    )
    for given in (images, []):
        page = Page(render_report(failed(error=error), request, given, []))
        assert "The answer has no <b>mass</b>." in page.text
        assert "keyword_not_in_answer" in page.text
        assert "The lungs are clear." in page.text
        assert not page.all("img", **{"class": "layer"})
        assert not page.scripts
        assert len(page.all("img", **{"class": "base"})) == len(given)


def test_a_cancelled_job_gets_a_page_too() -> None:
    _, request, _, _ = make()
    page = Page(render_report(failed(state=State.CANCELLED), request, [], []))
    assert "Cancelled" in page.text
    assert "It was cancelled." in page.text


def test_a_bare_record_of_a_success_is_shown() -> None:
    record, *rest = make(tokens=(), target={"scores": ()}, model=None, seconds={})
    assert ANSWER in Page(render_report(record, *rest)).text


def test_a_large_film_makes_a_page_of_less_than_three_megabytes() -> None:
    record, request, _, maps = make(sizes=((2000, 2000),))
    noise = np.random.default_rng(0).integers(0, 255, (2000, 2000), np.uint8)
    page = render_report(record, request, [Image.fromarray(noise)], maps)
    assert len(page.encode()) < 3_000_000


def test_each_of_several_targets_can_be_chosen_and_the_first_one_is_shown() -> None:
    other = NODULE.model_copy(update={"text": "zone", "char_start": 37, "char_end": 41})
    record, request, images, maps = make(spans=(NODULE, other))
    moved = np.roll(maps[1], 4, axis=1)
    second = record.targets[1].model_copy(
        update={"maps": (ImageMap(share=0.1, peak_cell=peak_cell(moved[0])),)}
    )
    record = record.model_copy(update={"targets": (record.targets[0], second)})
    page = Page(render_report(record, request, images, [maps[0], moved]))
    assert page.marked == "nodulezone"
    assert len(page.all("img", **{"class": "layer"})) == 1
    assert len(page.all("span", **{"class": "chosen"})) == 1
    assert "40.0% of all" in page.text
    carried = [unpacked(target["maps"]) for target in json.loads(page.data)["targets"]]
    assert np.array_equal(carried, [maps[0].ravel(), moved.ravel()])


def test_of_many_targets_every_map_is_carried_and_each_image_once() -> None:
    page = Page(render_report(*make(spans=(NODULE,) * 20)))
    assert len(json.loads(page.data)["targets"]) == 20
    assert len(page.all("img", **{"class": "base"})) == 1


def unpacked(packed: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed), "<f4")


def test_a_given_answer_is_told_as_such_and_its_surprises_are_no_alarm() -> None:
    page = Page(
        render_report(*make(answer_given=True, consistency=Consistency(checked=9, misses=2)))
    )
    assert "the model did not say it" in page.text
    assert "7 of its 9 checked tokens" in page.text
    assert not page.all("section", **{"class": "alert", "role": "alert"})


def test_a_word_of_the_prompt_is_named_as_one_and_marks_nothing_in_the_answer() -> None:
    word = NODULE.model_copy(update={"kind": "prompt", "char_start": None, "char_end": None})
    page = Page(render_report(*make(spans=(word,))))
    assert page.marked == ""
    assert "“nodule”, in the prompt" in page.text


def test_the_same_record_gives_the_same_page() -> None:
    assert render_report(*make()) == render_report(*make())


def test_many_films_are_shown_one_at_a_time_and_called_no_slices() -> None:
    page = Page(render_report(*make(sizes=((64, 64),) * 7)))
    assert page.all("input", id="slice")
    assert "Image 7" in page.text
    assert "slice" not in page.text.lower()
