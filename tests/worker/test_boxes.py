"""A box that is drawn on what the model was given lands on the film that was asked about."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from medgemma_tasks.boxes import locate, read_boxes
from medgemma_tasks.geometry import grid_square
from medgemma_tasks.models import ImagePart, Message, TextPart
from medgemma_worker.phantom.build import build_model, build_processor
from medgemma_worker.pictures_in import LONGEST_EDGE, prepared
from medgemma_worker.prompt import build_prompt

PROCESSOR = build_processor()
MODEL = build_model(PROCESSOR.tokenizer)
ASKED = Message(role="user", content=(ImagePart(image=0), TextPart(text="Where is it?")))


@pytest.mark.parametrize(
    "size", [(320, 900), (900, 320), (301, 484), (484, 301), (LONGEST_EDGE + 800, 700)]
)
@pytest.mark.parametrize("pad", [True, False])
def test_the_processors_own_square_is_the_one_that_boxes_are_read_in(
    size: tuple[int, int], pad: bool
) -> None:
    width, height = size
    patch = (width // 10, height // 5, width // 2, height * 2 // 5)
    film = Image.new("RGB", size)
    film.paste((255, 255, 255), patch)
    given = build_prompt(MODEL, PROCESSOR, [ASKED], [prepared(film, pad=pad)], room=1)
    assert given.pixel_values is not None
    seen = given.pixel_values[0, 0].float().numpy() > 0
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    ends = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    answer = json.dumps({"box_2d": [round(1000 * int(end) / len(seen)) for end in ends]})

    square = grid_square(width, height, pad)
    (found,) = locate(read_boxes(answer), np.ones((16, 16), np.float32), square)

    half = ((square[2] - square[0]) / 32, (square[3] - square[1]) / 32)
    for got, meant, most in zip(found.box, patch, (*half, *half), strict=True):
        assert abs(got - meant) <= most / 2
