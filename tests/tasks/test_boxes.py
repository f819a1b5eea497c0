"""Boxes of an answer: read without guessing, and placed on the pixels that the model meant."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medgemma_tasks.boxes import (
    AnswerBox,
    AnswerBoxes,
    box_share,
    locate,
    on_image,
    read_boxes,
)
from medgemma_tasks.errors import NonFiniteRelevancy
from medgemma_tasks.geometry import Box, cell_box, grid_square, pad_to_square

numbers = st.integers(0, 1000) | st.floats(0, 1000)
spans = st.tuples(numbers, numbers).map(sorted).filter(lambda span: span[0] < span[1])
said = st.builds(
    lambda down, across, label: {
        "box_2d": [down[0], across[0], down[1], across[1]],
        "label": label,
    },
    spans,
    spans,
    st.text(max_size=20) | st.sampled_from(["}", '{"', "```", "\\", '\\"', "a\nb"]),
)


def plain(boxes: AnswerBoxes) -> list[dict[str, object]]:
    return [{"box_2d": list(box.box_2d), "label": box.label} for box in boxes.found]


@given(
    st.lists(said, max_size=4),
    st.sampled_from([None, 2]),
    st.booleans(),
    st.sampled_from(
        ["%s", "```json\n%s\n```", "Here they are:\n```\n%s\n```\nThat is all.", "A: %s."]
    ),
)
def test_boxes_are_read_as_written_whatever_stands_around_them(
    boxes: list[dict[str, object]], indent: int | None, ascii_only: bool, around: str
) -> None:
    one = boxes[0] if len(boxes) == 1 else boxes
    for what in (boxes, one, {"boxes": boxes}):
        answer = around % json.dumps(what, indent=indent, ensure_ascii=ascii_only)
        read = read_boxes(answer)
        assert plain(read) == boxes
        assert read.left_out == 0


@given(st.lists(said, min_size=1, max_size=4), st.data())
def test_of_an_answer_that_was_cut_off_only_whole_boxes_count(
    boxes: list[dict[str, object]], data: st.DataObject
) -> None:
    text = json.dumps(boxes)
    ends = [len(json.dumps(boxes[: n + 1])) - 1 for n in range(len(boxes))]
    cut = data.draw(st.integers(0, len(text)))
    whole = sum(end <= cut for end in ends)
    assert plain(read_boxes(text[:cut])) == boxes[:whole]


@pytest.mark.parametrize(
    "place",
    [
        *("[0, 0, 1001, 10]", "[-1, 0, 10, 10]", "[0, 0, 1e999, 10]", "[0, 0, NaN, 10]"),
        *("[0, 0, Infinity, 10]", "[10, 0, 5, 10]", "[0, 10, 10, 5]", "[0, 0, 0, 10]"),
        *("[0, 0, true, 10]", '[0, 0, "9", 10]', "[0, 0, 10]", "[0, 0, 10, 10, 10]"),
        *("[[0, 0, 10, 10]]", "null", '"0, 0, 10, 10"', '{"y0": 0}', f"[0, 0, {'9' * 9000}, 10]"),
        *("[0, 0, 010, 10]", "[0 0 10 10]", "[" * 99_999, f"{'[' * 99_999}{']' * 99_999}"),
    ],
)
def test_what_is_no_box_is_left_out_and_counted(place: str) -> None:
    good = '{"box_2d": [1, 2, 3, 4], "label": "good"}'
    read = read_boxes(f'[{good}, {{"box_2d": {place}, "label": "bad"}}, {good}]')
    assert [box.label for box in read.found] == ["good", "good"]
    assert read.left_out == 1


@pytest.mark.parametrize(
    ("answer", "left_out"),
    [
        ('{"box_2d": [1, 2, 3, 4], "label": 7}', 1),
        ('{"box_2d": [1, 2, 3, 4], "box_2d": [1, 2, 3, 5]}', 2),  # which of them?
        ('{"box_2d": [1, 2, 3, 4], "of": {"side": "left"}}', 1),
        ("{'box_2d': [1, 2, 3, 4], 'label': 'x'}", 1),
        ('{"box_2d": [1, 2, 3, 4], "label": "no end}', 1),
        ('{"box_2d": [1, 2', 1),
        ('{"diagnosis": "none", "label": "x"}', 0),
        (r"The key box_2d is for boxes. Final answer: \boxed{A}", 0),
        ('A 5" drain {see above}, and "box_2d": none.', 1),
        ("", 0),
    ],
)
def test_nothing_is_guessed(answer: str, left_out: int) -> None:
    assert read_boxes(answer) == AnswerBoxes((), left_out)


def test_a_box_without_label_has_an_empty_one() -> None:
    for text in ('{"box_2d": [1, 2, 3, 4]}', '{"box_2d": [1, 2, 3, 4], "label": null}'):
        assert read_boxes(text) == AnswerBoxes((AnswerBox("", (1, 2, 3, 4)),), 0)


@given(st.text(alphabet='{}[]":,\\\n 019.eN-box_2dlabel', max_size=400) | st.text())
def test_any_text_can_be_read(answer: str) -> None:
    read = read_boxes(answer)
    assert read.left_out >= 0
    for box in read.found:
        y0, x0, y1, x1 = box.box_2d
        assert 0 <= y0 < y1 <= 1000
        assert 0 <= x0 < x1 <= 1000


SIZES = [(320, 900), (900, 320), (301, 484), (484, 301), (640, 640), (30, 1000), (1000, 31)]
CELLS = 16  # image tokens of MedGemma on either axis
SEEN = 896  # pixels of the square that its vision tower sees


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pad", [True, False])
def test_a_box_round_a_patch_lands_on_its_pixels(size: tuple[int, int], pad: bool) -> None:
    """From a patch on the film, by padding and resizing, to the square that the model sees; and by
    the box that it would draw there, back."""
    width, height = size
    square = grid_square(*size, pad=pad)
    half = ((square[2] - square[0]) / CELLS / 2, (square[3] - square[1]) / CELLS / 2)
    for fractions in ((0.1, 0.2, 0.45, 0.4), (0.5, 0.55, 0.95, 0.9), (0.0, 0.0, 0.3, 0.2)):
        patch = tuple(round(f * edge) for f, edge in zip(fractions, (*size, *size), strict=True))
        film = Image.new("L", size)
        film.paste(255, patch)
        padded = pad_to_square(film) if pad else film
        seen = np.asarray(padded.resize((SEEN, SEEN), Image.Resampling.BILINEAR)) > 127
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        ends = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
        answer = json.dumps([{"box_2d": [round(e / SEEN * 1000) for e in ends], "label": "patch"}])

        scores = seen.reshape(CELLS, SEEN // CELLS, CELLS, SEEN // CELLS).mean(axis=(1, 3))
        (found,) = locate(read_boxes(answer), scores.astype(np.float32), square)

        for got, meant, most in zip(found.box, patch, (*half, *half), strict=True):
            assert abs(got - meant) <= min(most, 0.003 * max(size) + 1)
        area = (patch[2] - patch[0]) * (patch[3] - patch[1])
        whole = max(size) ** 2 if pad else width * height
        assert found.area == pytest.approx(area / whole, abs=0.006)
        # The patch's map lies in its box, but for what the cells on its edges spread out of it.
        assert found.share is not None
        assert found.share > 2 * found.area


def test_without_padding_the_square_that_the_model_saw_is_the_stretched_image() -> None:
    boxes = read_boxes('{"box_2d": [0, 500, 1000, 1000], "label": "right half"}')
    flat = np.ones((16, 16), np.float32)
    for pad, box in ((False, (200, 0, 400, 100)), (True, (200, -150, 400, 250))):
        (found,) = locate(boxes, flat, grid_square(400, 100, pad))
        assert found.box == box
        assert (found.share, found.area) == (0.5, 0.5)


@given(spans, spans, st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_in_an_even_map_a_box_holds_what_it_covers(
    down: list[float], across: list[float], rows: int, columns: int, pad: bool
) -> None:
    box = AnswerBox("", (down[0], across[0], down[1], across[1]))
    scores = np.full((rows, columns), 0.3, np.float32)
    (found,) = locate(AnswerBoxes((box,), 0), scores, grid_square(70, 300, pad))
    assert found.share == pytest.approx(found.area, abs=1e-9)


@given(st.integers(0, 3), st.integers(0, 4), st.booleans())
def test_the_boxes_of_all_cells_share_the_map(row: int, column: int, pad: bool) -> None:
    scores = np.arange(20, dtype=np.float32).reshape(4, 5) - 3.0
    square = grid_square(70, 300, pad)
    share = box_share(scores, cell_box((row, column), (4, 5), square), square)
    assert share == pytest.approx(max(0.0, float(scores[row, column])) / 136, abs=1e-9)


def test_a_cell_that_a_box_cuts_counts_by_the_area_in_it() -> None:
    scores = np.zeros((16, 16), np.float32)
    scores[4, 4] = 2.0
    # A quarter of the cell from (40, 40) to (50, 50).
    assert box_share(scores, (45, 45, 90, 90), (0, 0, 160, 160)) == pytest.approx(0.25)


def test_a_map_without_relevancy_has_no_share_to_give() -> None:
    for value in (0.0, -1.0):
        scores = np.full((4, 4), value, np.float32)
        assert box_share(scores, (0, 0, 10, 10), (0, 0, 20, 20)) is None
    with pytest.raises(NonFiniteRelevancy):
        box_share(np.full((4, 4), np.nan, np.float32), (0, 0, 10, 10), (0, 0, 20, 20))


@pytest.mark.parametrize(
    ("box", "part"),
    [
        ((-5.0, 2.0, 8.0, 90.0), (0.0, 2.0, 8.0, 20.0)),
        ((1.5, 2.0, 8.0, 9.0), (1.5, 2.0, 8.0, 9.0)),
        ((-5.0, 2.0, 0.0, 9.0), None),
        ((2.0, 20.0, 8.0, 30.0), None),
    ],
)
def test_what_lies_in_the_padding_is_no_part_of_the_image(box: Box, part: Box | None) -> None:
    assert on_image(box, (10, 20)) == part


def test_located_boxes_are_gone_through_in_the_answers_order_and_say_no_label_by_themselves() -> (
    None
):
    answer = '[{"box_2d": [1, 2, 3, 4], "label": "b"}, {"box_2d": [5, 6, 7, 8], "label": "a"}]'
    boxes = locate(read_boxes(answer + '{"box_2d": 1}'), np.ones((2, 2), np.float32), (0, 0, 9, 9))
    assert [box.label for box in boxes] == ["b", "a"]
    assert (len(boxes), boxes.left_out) == (2, 1)
    assert "label" not in repr(boxes.found[0])
