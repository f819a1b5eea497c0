"""The size that a compressed frame itself declares, read before any decoder allocates for it."""

from __future__ import annotations

from dataclasses import dataclass

_JP2 = b"\0\0\0\x0cjP  "
_J2K = b"\xff\x4f\xff\x51"
"""Start of codestream, then the SIZ marker (ITU-T T.800 A.5.1)."""
_NO_FRAME = frozenset((0xC4, 0xC8, 0xCC))
"""Markers between the starts of frame that are none: tables, reserved, arithmetic conditioning."""
_JPEG_LS_FRAME = 0xF7


@dataclass(frozen=True)
class FrameSize:
    rows: int
    columns: int
    samples: int


def frame_size(data: bytes) -> FrameSize | None:
    """Size by the codestream's header: JPEG, JPEG-LS, JPEG 2000 (raw or JP2); None if unclear."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(_JP2):
        data = _codestream_of_jp2(data)
    return _jpeg_2000(data) if data.startswith(_J2K) else None


def _jpeg(data: bytes) -> FrameSize | None:
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == _JPEG_LS_FRAME or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME):
            return FrameSize(_word(data, at + 5), _word(data, at + 7), data[at + 9])
        else:
            at += 2 + _word(data, at + 2)
    return None


def _jpeg_2000(data: bytes) -> FrameSize | None:
    if len(data) < 42:
        return None
    right, bottom, left, top = (int.from_bytes(data[at : at + 4], "big") for at in (8, 12, 16, 20))
    return FrameSize(bottom - top, right - left, _word(data, 40))


def _codestream_of_jp2(data: bytes) -> bytes:
    at = 0
    while at + 16 <= len(data):
        length, head = int.from_bytes(data[at : at + 4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if data[at + 4 : at + 8] == b"jp2c":
            return data[at + head :]
        if length < head:
            break
        at += length
    return b""


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
