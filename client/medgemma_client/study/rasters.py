"""Studies that are no DICOM: PNG, JPEG, TIFF or BMP, such as patches of a slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medgemma_client.images.source import SourceImage, read_image
from medgemma_client.study.files import StudyFile
from medgemma_client.study.finding import numbered
from medgemma_client.study.limits import Limits
from medgemma_client.study.notes import of_left_out
from medgemma_client.study.sampling import MOST_PATCHES, MOST_SLICES, sample
from medgemma_client.study.series import Kind, counted
from medgemma_client.study.study import Origin, Study
from medgemma_tasks.errors import InputError, NotAnImage, StudyEmpty

_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")


def read(files: Sequence[StudyFile], kind: Kind | None, most: int | None, limits: Limits) -> Study:
    """All images, in the order of their files; sampled where there are more than ``most``.

    Raises:
        StudyEmpty: None of the files is an image; NotAnImage for a single file.
        InputError: One that looks like an image cannot be read; its message says which.
        StudyTooLarge: More pixels than may be held.
    """
    kind = kind or "images"
    found = [file for file in files if file.head(4).startswith(_MAGIC)]
    if not found and len(files) == 1:
        raise NotAnImage(
            "The file is neither DICOM nor an image that can be read. Pass a folder, a zip file, "
            "DICOM, PNG, JPEG, TIFF or BMP."
        )
    if not found:
        raise StudyEmpty(
            f"None of the {len(files)} files of the study is an image.",
            left_out={"no image": len(files)},
        )
    indices = sample(len(found), most or (MOST_PATCHES if kind == "patches" else MOST_SLICES))
    images: list[SourceImage] = []
    needed = 0
    for k in indices:
        data = found[k].read()
        try:
            image = read_image(data, max_pixels=limits.pixels, max_file_bytes=limits.file_bytes)
        except InputError as error:
            if len(found) == 1:
                raise
            raise numbered(error, "Image", k + 1, len(found)) from None
        needed += 3 * image.pixels.width * image.pixels.height
        limits.check_shown(needed)
        images.append(image)
    told = [f"Shown: {counted(len(images), 'image')} without DICOM, taken for {kind}."]
    if len(indices) < len(found):
        told.append(f"Of {len(found)} images {len(indices)} are shown, at even distances.")
    told += of_left_out(Counter({"no image": len(files) - len(found)} if files != found else {}))
    return Study(
        kind=kind,
        modality=None,
        images=tuple(images),
        notes=tuple(told),
        shown=tuple(indices),
        origins=tuple(Origin(found[k], None) for k in indices),
    )
