"""The boxes of an answer on its page: in the right place, listed, and never taken for markup."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from medgemma_client.report import render_report
from medgemma_tasks.boxes_picture import MOST, line_of
from tests.client.report.samples import Page, make


def answer(*boxes: tuple[list[float], str]) -> str:
    said = [{"box_2d": place, "label": label} for place, label in boxes]
    return f"```json\n{json.dumps(said)}\n```"


def page(said: str, **options: Any) -> Page:
    return Page(render_report(*make(answer=said, **options)))


NODULE = [100.0, 250.0, 300.0, 500.0]


def test_a_box_is_outlined_at_its_place_over_the_map() -> None:
    """On an image of 200 x 300, that is 300 x 300 with its padding."""
    shown = page(answer((NODULE, "nodule")), sizes=((200, 300),))
    assert len(shown.all("svg", **{"class": "boxes"})) == 1
    assert len(shown.all("img", **{"class": "layer"})) == 1
    assert len(shown.all("input", id="boxes")) == 1  # they can be hidden
    rects = [rect for rect in shown.all("rect") if rect["height"] != "12"]  # not in the list
    assert len(rects) == 2  # with its dark rim
    for rect in rects:
        x, y, width, height = (float(rect[k] or "") for k in ("x", "y", "width", "height"))
        assert (x, width) == pytest.approx((100 * 25 / 200, 100 * 75 / 200), abs=0.001)
        assert (y, height) == pytest.approx((10, 20), abs=0.001)


def test_each_box_is_listed_with_what_it_holds() -> None:
    maps = np.zeros((1, 16, 16), np.float32)
    maps[0, 2, 5] = 1.0
    shown = page(answer((NODULE, "nodule"), ([900, 0, 1000, 1000], "")), maps=maps)
    for words in ("nodule", "100.0%", "5.0%", "no label", "0.0%", "10.0%"):
        assert words in shown.text
    outlined = {rect["stroke"] for rect in shown.all("rect") if "stroke" in rect}
    assert outlined == {"#{:02x}{:02x}{:02x}".format(*line_of(index)[0]) for index in (0, 1)}


def test_a_box_in_the_padding_is_said_to_be_outside() -> None:
    shown = page(answer(([0, 0, 1000, 100], "margin")), sizes=((200, 300),))
    assert "outside of the image: margin" in shown.text


def test_what_was_left_out_is_said_even_where_nothing_was_found() -> None:
    shown = page('{"box_2d": [1, 2')
    assert "1 left out" in shown.text
    assert not shown.all("table")


def test_an_answer_without_boxes_has_no_such_section() -> None:
    shown = Page(render_report(*make()))
    assert "boxes" not in shown.text
    assert not shown.all("rect")


def test_of_several_images_none_is_guessed_to_have_the_boxes() -> None:
    shown = page(answer((NODULE, "nodule")), sizes=((200, 300), (300, 200)))
    assert "The answer has 1 box, and does not say on which of the images" in shown.text
    assert not shown.all("rect")


def test_a_flat_map_leaves_the_boxes_alone() -> None:
    flat = page(answer((NODULE, "nodule")), maps=np.zeros((1, 16, 16), np.float32))
    assert len(flat.all("svg", **{"class": "boxes"})) == 1
    assert "none" in flat.text


def test_of_very_many_boxes_the_rest_is_counted() -> None:
    shown = page(answer(*[(NODULE, "nodule")] * (MOST + 7)))
    assert len(shown.all("svg", **{"class": "sample"})) == MOST
    assert "7 more boxes" in shown.text


@pytest.mark.parametrize(
    "label", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "\u202egnorw", "\x00\ud800"]
)
def test_a_label_is_text_and_no_more(label: str) -> None:
    said = answer((NODULE, label))
    shown = page(said)
    assert not shown.all("img", src="x")
    assert len(shown.scripts) == 1
    assert not {"\u202e", "\x00", "\ud800"} & set(shown.text)
