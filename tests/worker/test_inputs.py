from __future__ import annotations

import io

import pytest
from PIL import Image

from medgemma_tasks.errors import ArtifactDamaged, ImageTooLarge
from medgemma_tasks.layout import input_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ImageRef
from medgemma_worker.inputs import fetch_images
from tests.parts import picture, reference


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def stored(ledger: Ledger, image: Image.Image) -> ImageRef:
    ref = reference(image)
    ledger.put_input(ref, png(image))
    return ref


@pytest.mark.parametrize("image", [picture(), picture().convert("RGB")])
def test_an_image_comes_back_with_its_pixels(ledger: Ledger, image: Image.Image) -> None:
    (fetched,) = fetch_images(ledger, [stored(ledger, image)], 1000)
    assert (fetched.mode, fetched.size) == (image.mode, image.size)
    assert fetched.tobytes() == image.tobytes()


def test_images_keep_the_order_of_the_request(ledger: Ledger) -> None:
    refs = [stored(ledger, picture(grey=grey)) for grey in (3, 1, 2)]
    assert [image.getpixel((0, 0)) for image in fetch_images(ledger, refs, 1000)] == [3, 1, 2]


def test_an_image_over_the_limit_is_not_even_fetched(ledger: Ledger) -> None:
    with pytest.raises(ImageTooLarge):
        fetch_images(ledger, [reference(picture())], 47)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a png",
        png(picture())[:40],
        png(picture(grey=8)),
        png(picture((6, 8))),
        png(picture((20_000, 20_000))),
        png(picture().convert("RGB")),
    ],
    ids=["empty", "no png", "truncated", "other pixels", "other size", "huge", "other mode"],
)
def test_another_image_under_the_name_is_damaged(ledger: Ledger, content: bytes) -> None:
    ref = stored(ledger, picture())
    ledger.store.put(input_key("local", ref.name), content)
    with pytest.raises(ArtifactDamaged):
        fetch_images(ledger, [ref], 1000)


def test_a_missing_image_is_damaged(ledger: Ledger) -> None:
    with pytest.raises(ArtifactDamaged):
        fetch_images(ledger, [reference(picture())], 1000)
