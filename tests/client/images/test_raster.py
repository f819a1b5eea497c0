"""PNG, JPEG, TIFF and BMP to 8-bit grey or RGB."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgemma_client.images import read_image
from medgemma_tasks.errors import ImageTooLarge, NotAnImage, TruncatedImage

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), np.uint8)
COLOUR = RNG.integers(0, 256, (20, 30, 3), np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "source"), [("PNG", "png"), ("TIFF", "tiff"), ("JPEG", "jpeg"), ("BMP", "other")]
)
@pytest.mark.parametrize("array", [GREY, COLOUR])
def test_the_common_formats_keep_size_mode_and_pixels(
    kind: str, source: str, array: np.ndarray
) -> None:
    image = read_image(encoded(Image.fromarray(array), kind))
    assert image.attributes.source == source
    assert image.attributes.bits_stored == 8
    assert image.pixels.mode == ("L" if array.ndim == 2 else "RGB")
    if kind == "JPEG":
        assert image.pixels.size == (30, 20)
    else:
        assert np.array_equal(np.asarray(image.pixels), array)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_from_its_own_range(kind: str) -> None:
    values = np.array([[1000, 2000], [3000, 5000]], np.uint16)
    image = read_image(encoded(Image.fromarray(values), kind))
    assert np.asarray(image.pixels).tolist() == [[0, 64], [128, 255]]
    assert image.attributes.bits_stored == 16


def test_float_grey_is_scaled_and_what_is_not_finite_is_not_counted() -> None:
    values = np.array([[-1.0, np.nan], [np.inf, 1.0]], np.float32)
    image = read_image(Image.fromarray(values))
    assert np.asarray(image.pixels).tolist() == [[0, 0], [255, 255]]


def test_flat_16_bit_grey_becomes_black() -> None:
    image = read_image(Image.fromarray(np.full((2, 2), 700, np.uint16)))
    assert not np.asarray(image.pixels).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_in_which_zero_is_white_is_inverted_at_any_depth(dtype: type) -> None:
    # As scanned films come. Written under a header of our own, since
    # Pillow inverts on writing as well.
    samples = np.array([[0, 100], [200, 250]], dtype)
    image = read_image(_tiff(samples, photometric=0))
    assert np.asarray(image.pixels)[0, 0] == 255
    assert np.asarray(image.pixels)[0, 0] > np.asarray(image.pixels)[1, 1]


def _tiff(samples: np.ndarray, photometric: int) -> bytes:
    data = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    tags = [
        (256, samples.shape[1]),
        (257, samples.shape[0]),
        (258, 8 * samples.itemsize),
        (259, 1),
        (262, photometric),
        (273, 8 + 2 + 9 * 12 + 4),
        (277, 1),
        (278, samples.shape[0]),
        (279, len(data)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 9) + entries + b"\0\0\0\0" + data


def test_alpha_is_laid_on_black() -> None:
    half = np.zeros((1, 3, 4), np.uint8)
    half[..., :3] = 200
    half[0, :, 3] = [0, 128, 255]
    colour = read_image(encoded(Image.fromarray(half), "PNG"))
    assert np.asarray(colour.pixels)[0].tolist() == [[0] * 3, [100] * 3, [200] * 3]
    grey = read_image(encoded(Image.fromarray(half).convert("LA"), "PNG"))
    assert np.asarray(grey.pixels)[0].tolist() == [0, 100, 200]


def test_palettes_become_rgb_with_their_transparent_colour_black() -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([250, 0, 0, 0, 250, 0])
    assert np.asarray(read_image(encoded(palette, "PNG")).pixels)[0].tolist() == [
        [250, 0, 0],
        [0, 250, 0],
    ]
    clear = read_image(encoded(palette, "PNG", transparency=0))
    assert np.asarray(clear.pixels)[0].tolist() == [[0, 0, 0], [0, 250, 0]]


def test_1_bit_images_become_grey() -> None:
    image = read_image(encoded(Image.fromarray(GREY > 100), "PNG"))
    assert image.attributes.bits_stored == 1
    assert np.array_equal(np.asarray(image.pixels), (GREY > 100) * np.uint8(255))


def test_cmyk_becomes_rgb() -> None:
    image = read_image(encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"))
    assert image.pixels.mode == "RGB"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_the_orientation_tag_is_applied(kind: str) -> None:
    wide = np.zeros((8, 16), np.uint8)
    wide[:, 8:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter clockwise: the right edge shows at the bottom
    image = read_image(encoded(Image.fromarray(wide), kind, exif=exif))
    assert image.pixels.size == (8, 16)
    shown = np.asarray(image.pixels)
    assert shown[0, 4] < 20
    assert shown[-1, 4] > 235


def test_a_tiff_of_several_pages_gives_the_first_or_the_one_asked_for() -> None:
    pages = [Image.fromarray(GREY // (page + 1)) for page in range(3)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    first, last = read_image(data), read_image(data, frame=2)
    assert (first.attributes.frame, first.attributes.frames) == (0, 3)
    assert (last.attributes.frame, last.attributes.frames) == (2, 3)
    assert np.array_equal(np.asarray(first.pixels), GREY)
    assert np.array_equal(np.asarray(last.pixels), GREY // 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_file_cut_short_is_truncated(kind: str, part: float) -> None:
    data = encoded(Image.fromarray(COLOUR), kind)
    with pytest.raises(TruncatedImage):
        read_image(data[: int(len(data) * part)])


def test_a_bomb_is_refused_by_its_header_before_decoding() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(ImageTooLarge):
        read_image(bomb)
    # Pillow's own limit holds even where ours is raised above it.
    with pytest.raises(ImageTooLarge, match="Pillow"):
        read_image(bomb, max_pixels=10**12)


def test_an_image_without_one_finite_value_is_no_black_image() -> None:
    buffer = BytesIO()
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(buffer, "TIFF")
    with pytest.raises(NotAnImage, match="finite"):
        read_image(buffer.getvalue())
