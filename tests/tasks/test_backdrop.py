from __future__ import annotations

import numpy as np
from PIL import Image

from medgemma_tasks.backdrop import backdrop
from medgemma_tasks.models import ImageAttributes

COLOURS = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8), mode="RGB"
)


def test_a_ct_in_three_windows_is_shown_in_its_soft_tissue_window_as_grey() -> None:
    shown = backdrop(COLOURS, ImageAttributes(modality="CT"))
    assert shown.mode == "L"
    assert np.array_equal(np.asarray(shown), np.asarray(COLOURS)[..., 1])


def test_any_other_image_is_shown_as_it_is() -> None:
    assert backdrop(COLOURS, ImageAttributes(modality="US")) is COLOURS
    assert backdrop(COLOURS, ImageAttributes()) is COLOURS
    grey = COLOURS.convert("L")
    assert backdrop(grey, ImageAttributes(modality="CT")) is grey
