"""Decoding one frame of a DICOM file by pydicom's decoders, after every size has been checked."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgemma_client.images.codestream import FrameSize, frame_size
from medgemma_client.images.dicom_header import Header
from medgemma_client.images.dicom_stream import Body
from medgemma_client.images.isolated import decode_with_gdcm
from medgemma_tasks.errors import DicomUndecodable, ImageTooLarge, TruncatedImage

_SAFE = ("pylibjpeg", "pyjpegls", "pillow", "pydicom")
"""pydicom's names of plugins that damaged data has not been seen to crash, the best first."""
_RLE = "1.2.840.10008.1.2.5"
_RLE_HEADER = 64
"""Bytes before the first segment (PS3.5 G.5)."""
_ITEM, _END_OF_ITEMS = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"


def decode_frame(body: Body, header: Header) -> NDArray[Any]:
    """Stored values of the header's frame: (rows, columns), or (rows, columns, 3) in RGB.

    Raises:
        DicomUndecodable: No decoder for the transfer syntax, or none that can read this frame.
        TruncatedImage: Fewer bytes than the header promises.
        ImageTooLarge: Compressed data that would expand beyond the size of the frame.
    """
    decoder = _decoder(body.syntax)
    stream = body.stream
    options = _options(header)
    if not decoder.is_encapsulated:
        check_length(header, stream.getbuffer().nbytes)
        stream.seek(header.pixel_start)
        return _decode(decoder, stream, header.frame, options)
    _check_items(stream, header)
    encoded = _check_frame(stream, header, body.syntax)
    options["number_of_frames"] = 1
    safe = [plugin for plugin in _SAFE if plugin in decoder.available_plugins]
    if safe:
        from pydicom.encaps import encapsulate

        options["decoding_plugin"] = safe[0]
        return _decode(decoder, encapsulate([encoded]), 0, options)
    values = decode_with_gdcm(encoded, body.syntax, options)
    if values is None:
        raise _undecodable()
    return values


def _decode(decoder: Any, source: Any, index: int, options: dict[str, Any]) -> NDArray[Any]:
    try:
        return np.asarray(decoder.as_array(source, index=index, **options)[0])
    except Exception:  # noqa: BLE001 - decoders raise almost anything, with text of their own
        raise _undecodable() from None


def _decoder(syntax: str) -> Any:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    try:
        decoder = get_decoder(UID(syntax))
    except (NotImplementedError, ValueError):
        decoder = None
    if decoder is None or not decoder.is_available:
        known = UID(syntax).name if decoder else "private or a video"
        raise DicomUndecodable(
            f"No decoder is installed for the transfer syntax of the DICOM file ({known}). "
            'Run: pip install "medgemma-explainer[dicom]", or have the file exported uncompressed.'
        )
    return decoder


def _options(header: Header) -> dict[str, Any]:
    return {
        "rows": header.rows,
        "columns": header.columns,
        "samples_per_pixel": header.samples,
        "photometric_interpretation": header.photometric,
        "planar_configuration": header.planar,
        "bits_allocated": header.bits_allocated,
        "bits_stored": header.bits_stored,
        "pixel_representation": int(header.signed),
        "number_of_frames": header.frames,
        "pixel_keyword": header.pixel_keyword,
        "pixel_vr": header.pixel_vr,
    }


def check_length(header: Header, size: int) -> None:
    """Native pixel data must be there for all frames, not only for the one that is wanted.

    ``size`` is that of the whole data set in bytes. Raises TruncatedImage.
    """
    bits = header.rows * header.columns * header.samples * header.bits_allocated * header.frames
    if header.photometric == "YBR_FULL_422":
        bits = bits * 2 // 3  # two pixels share their colour
    present = size - header.pixel_start
    if header.pixel_length is not None:
        present = min(present, header.pixel_length)
    if present < math.ceil(bits / 8):
        raise truncated()


def _check_items(stream: BytesIO, header: Header) -> None:
    """The items of encapsulated pixel data must all be whole. JPEG 2000 would decode the stump of
    a frame without complaint, blurred."""
    data = stream.getbuffer()
    at = header.pixel_start
    while at < len(data):
        tag = bytes(data[at : at + 4])
        if tag == _END_OF_ITEMS:
            return
        if tag != _ITEM or at + 8 > len(data):
            raise truncated()
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    if at > len(data):
        raise truncated()


def _check_frame(stream: BytesIO, header: Header, syntax: str) -> bytes:
    """The encoded frame. What its codestream says of itself must be what the header says: a
    decoder believes the codestream."""
    from pydicom.encaps import get_frame

    stream.seek(header.pixel_start)
    try:
        encoded: bytes = get_frame(
            stream,
            header.frame,
            number_of_frames=header.frames,
            extended_offsets=header.offsets,
        )
    except Exception:  # noqa: BLE001 - damaged offsets raise almost anything
        raise _undecodable() from None
    if syntax == _RLE:
        if len(encoded) < _RLE_HEADER:
            raise _undecodable()
        plain = header.rows * header.columns * header.samples * header.bits_allocated // 8
        # At its worst RLE adds a byte in 128; more than that only serves to exhaust memory.
        if len(encoded) > 2 * plain + 4096:
            raise ImageTooLarge(
                "The compressed frame of the DICOM file is larger than the image it stands for. "
                "Fetch or export the file again."
            )
    elif frame_size(encoded) != FrameSize(header.rows, header.columns, header.samples):
        raise _undecodable()
    return encoded


def truncated() -> TruncatedImage:
    return TruncatedImage(
        "The DICOM file is cut short: its pixel data ends before its header says it should. "
        "Fetch or export it again."
    )


def _undecodable() -> DicomUndecodable:
    return DicomUndecodable(
        "The pixel data of the DICOM file cannot be decoded: it is damaged, of a kind that no "
        "installed decoder reads, or disagrees with its header. "
        "Fetch it again, or have it exported uncompressed."
    )
