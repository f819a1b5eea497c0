"""From what a row says of its images to the files and objects that it means, in order.

No error names a path: the row and the place of the image in it say which one it is.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from medgemma_client.images.counting import as_people_count
from medgemma_tasks.errors import BucketNotAllowed, FileUnreadable, InvalidRequest, PathOutside

_S3 = "s3://"
_SUFFIXES = frozenset(
    (".dcm", ".dicom", ".ima", ".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp")
)
_OBJECT = re.compile(r"s3://([^/]+)/(.+)", re.DOTALL)
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, repr=False)
class S3Object:
    bucket: str
    key: str


Place: TypeAlias = Path | S3Object


def resolve(
    images: Iterable[str], *, base: Path, buckets: Sequence[str], max_images: int
) -> list[Place]:
    """The files and objects of a row. A file need not be there: reading it will tell.

    A folder stands for its image files, sorted by name as people count (2 before 10); a pattern
    (``*``, ``?``, ``[...]``, ``**``) for the files it matches, sorted likewise, unless there is a
    file of just that name.

    Args:
        images: As written in the row.
        base: What a relative path starts from.
        buckets: Whose objects may be read.
        max_images: Most of one row.

    Raises:
        FileUnreadable: A folder or a pattern without files, or one that may not be listed.
        PathOutside: A link in a folder, or one that a pattern matches, leads out of it.
        BucketNotAllowed, InvalidRequest: No such bucket was allowed; or too many images.
    """
    found: list[Place] = []
    for image in images:
        for place in _places(image, base, buckets, max_images - len(found)):
            if len(found) == max_images:
                raise InvalidRequest(
                    f"The row has more images than a question takes: {max_images}."
                )
            found.append(place)
    return found


def _places(image: str, base: Path, buckets: Sequence[str], most: int) -> Iterable[Place]:
    if image.startswith(_S3):
        return [_object(image, buckets)]
    path = base / image
    try:
        if path.is_dir():
            return _checked(_image_files(path), path, most)
        if _MAGIC.search(image) and not os.path.lexists(path):
            root, pattern = _split(path)
            return _checked(_matches(root, pattern), root, most)
    except OSError as error:
        raise FileUnreadable(
            f"A folder cannot be listed ({type(error).__name__}). Check its permissions."
        ) from None
    return [path]


def _object(image: str, buckets: Sequence[str]) -> S3Object:
    match = _OBJECT.fullmatch(image)
    if match is None:
        raise FileUnreadable("An object of S3 is written as s3://bucket/key.")
    if match[1] not in buckets:
        raise BucketNotAllowed(
            "The image is in a bucket that was not allowed. Allow it by --allow-bucket if you "
            "trust the manifest."
        )
    return S3Object(match[1], match[2])


def _image_files(folder: Path) -> Iterator[Path]:
    """Files that may be images by their names: a damaged slice must not be passed over, and a
    text beside the slices is none of them."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if _may_be_image(entry.name) and not entry.is_dir():
                yield folder / entry.name


def _may_be_image(name: str) -> bool:
    if name.startswith(".") or name.upper() == "DICOMDIR":
        return False
    suffix = os.path.splitext(name)[1].lower()
    # Slices are often named by a UID, or have no suffix at all.
    return suffix in _SUFFIXES or not re.search(r"[a-z]", suffix)


def _split(path: Path) -> tuple[Path, str]:
    """The folder before the first part that is a pattern, and the rest."""
    parts = path.parts
    first = next(at for at, part in enumerate(parts) if _MAGIC.search(part))
    return Path(*parts[:first]), os.path.join(*parts[first:])


def _matches(root: Path, pattern: str) -> Iterator[Path]:
    for match in glob.iglob(pattern, root_dir=root, recursive=True):
        if not (root / match).is_dir():
            yield root / match


def _checked(files: Iterable[Path], root: Path, most: int) -> list[Path]:
    """The files, sorted; one more than are allowed at most, since a folder may hold a million."""
    inside = os.path.realpath(root)
    found = list(islice(files, most + 1))
    for file in found:
        if not Path(os.path.realpath(file)).is_relative_to(inside):
            raise PathOutside(
                "A link in the folder leads out of it. Put the image itself there, or name it."
            )
    if not found:
        raise FileUnreadable("The folder holds no image file, or the pattern matches none.")
    return sorted(found, key=lambda path: as_people_count(str(path)))
