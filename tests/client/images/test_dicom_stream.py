"""Recognising DICOM by its content, envelopes, and deflate bombs."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from medgemma_client.images import read_image
from medgemma_client.images.dicom_stream import DEFLATED, is_dicom
from medgemma_tasks.errors import DicomEncrypted, ImageTooLarge, TruncatedImage

Make = Callable[..., bytes]

# From RFC 5652: ContentInfo, its type, an explicit context tag, EnvelopedData.
ENVELOPE = b"\x30\x82\x10\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03\xa0\x82" + b"\0" * 200


def deflated(body: bytes) -> bytes:
    """A file whose file meta names the deflated syntax, with ``body`` deflated after it."""
    uid = DEFLATED.encode()
    syntax = b"\x02\0\x10\0UI" + len(uid).to_bytes(2, "little") + uid
    length = b"\x02\0\0\0UL\x04\0" + len(syntax).to_bytes(4, "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"\0" * 128 + b"DICM" + length + syntax + packer.compress(body) + packer.flush()


def body_of(data: bytes) -> bytes:
    """The data set after the file meta of a file that ``make_dicom`` made."""
    start = 132 + 12 + int.from_bytes(data[140:144], "little")
    return data[start:]


def test_the_prefix_decides_and_not_what_stands_before_it() -> None:
    assert is_dicom(b"\x89PNG".ljust(128, b"x") + b"DICM")
    assert not is_dicom(b"\x89PNG\r\n\x1a\n" + b"\0" * 200)


def test_a_bare_data_set_is_read_by_guessing_its_syntax(make_dicom: Make) -> None:
    whole = make_dicom()
    assert read_image(body_of(whole)).name == read_image(whole).name


def test_an_envelope_around_the_whole_file_is_encrypted() -> None:
    with pytest.raises(DicomEncrypted, match="Decrypt"):
        read_image(ENVELOPE)


def test_a_deflated_data_set_is_inflated(make_dicom: Make) -> None:
    whole = make_dicom()
    assert read_image(deflated(body_of(whole))).name == read_image(whole).name


def test_a_deflate_bomb_is_refused_within_its_limit() -> None:
    bomb = deflated(b"\0" * 200_000_000)
    tracemalloc.start()
    with pytest.raises(ImageTooLarge, match="inflates"):
        read_image(bomb, max_file_bytes=1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_deflated_file_cut_short_is_truncated(make_dicom: Make) -> None:
    with pytest.raises(TruncatedImage, match="deflated"):
        read_image(deflated(body_of(make_dicom()))[:-10])
