"""A DICOM file as bytes: recognising it, its file meta information, and its data set inflated.

A deflated data set is inflated here, under a limit, and not by pydicom, which inflates it whole
even where only a header is asked for.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from io import BytesIO

from medgemma_tasks.errors import DicomEncrypted, ImageTooLarge, TruncatedImage

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

_UID = re.compile(r"(?=.{1,64}\Z)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*", re.ASCII)
_MAGIC_AT = 128
_CMS_TYPES = (
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03",  # 1.2.840.113549.1.7.3 envelopedData
    b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17",  # ...1.9.16.1.23 authEnvelopedData
)
"""How a Secure DICOM File (PS3.15 annex D) begins: a CMS envelope around the whole file."""


@dataclass(frozen=True)
class Body:
    """A data set to parse, positioned at its first element, never deflated."""

    stream: BytesIO
    syntax: str
    """Transfer syntax UID of the pixel data; a guess where the file meta names none."""
    sop_class: str
    """Media storage SOP class UID; empty where the file meta names none."""

    @property
    def implicit(self) -> bool:
        return self.syntax == IMPLICIT_LITTLE

    @property
    def little_endian(self) -> bool:
        return self.syntax != EXPLICIT_BIG


def has_magic(data: bytes) -> bool:
    """Whether the preamble and prefix of the DICOM file format are there."""
    return data[_MAGIC_AT : _MAGIC_AT + 4] == b"DICM"


def is_dicom(data: bytes) -> bool:
    """Whether this is DICOM: with its prefix, encrypted as a whole, or a bare data set.

    A bare data set begins with group 0002 or 0008 and, in explicit VR, an upper-case pair.
    """
    if has_magic(data) or _encrypted(data):
        return True
    if len(data) < 8 or data[:2] not in (b"\x02\0", b"\x08\0", b"\0\x08"):
        return False
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    # Implicit VR: the first elements of these groups are short.
    return explicit or (data[0] != 0 and int.from_bytes(data[4:8], "little") <= 256)


def open_body(data: bytes, max_bytes: int) -> Body:
    """Read the file meta information and position a stream at the data set.

    Raises:
        DicomEncrypted: The whole file is a CMS envelope.
        TruncatedImage, ImageTooLarge: A deflated data set that ends early, or inflates too far.
        Exception: Whatever pydicom raises on a damaged header; its text may quote values.
    """
    if _encrypted(data):
        raise DicomEncrypted(
            "The DICOM file is encrypted as a whole. Decrypt it first, with the key of its sender."
        )
    from pydicom.filereader import read_dataset

    stream = BytesIO(data)
    stream.seek(_MAGIC_AT + 4 if has_magic(data) else 0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = plain_uid(meta.get("TransferSyntaxUID"))
    if syntax == "" and meta.get("TransferSyntaxUID"):
        raise ValueError("the transfer syntax is no UID")
    syntax = syntax or _guess(data[stream.tell() :][:8])
    if syntax == DEFLATED:
        stream = BytesIO(_inflate(data[stream.tell() :], max_bytes))
        syntax = EXPLICIT_LITTLE
    return Body(stream, syntax, plain_uid(meta.get("MediaStorageSOPClassUID")))


def plain_uid(value: object) -> str:
    """A UID, or "" for what is none. In a damaged file it may be anything, half the header
    included, and pydicom quotes it in a warning as soon as it is asked what it means."""
    text = str(value or "").strip(" \0")
    return text if _UID.fullmatch(text) else ""


def _encrypted(data: bytes) -> bool:
    return data[:1] == b"\x30" and any(kind in data[:32] for kind in _CMS_TYPES)


def _guess(element: bytes) -> str:
    """The syntax of a data set without file meta, from the first eight bytes of it."""
    if not (element[4:6].isalpha() and element[4:6].isupper()):
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if element[:1] == b"\0" else EXPLICIT_LITTLE


def _inflate(deflated: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(deflated, limit + 1)
    except zlib.error:
        inflated = b""
    if len(inflated) > limit:
        raise ImageTooLarge(
            f"The deflated DICOM file inflates to more than {limit} bytes. "
            "Raise max_file_bytes if you trust the file.",
            limit=limit,
        )
    if not inflater.eof:
        raise TruncatedImage(
            "The deflated DICOM file is cut short or damaged. Fetch or export it again."
        )
    return inflated
