"""Which of a study's files are images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medgemma_client.images.dicom_stream import is_dicom
from medgemma_client.study.files import StudyFile
from medgemma_client.study.headers import HEAD, Frame, Headers
from medgemma_client.study.limits import Limits
from medgemma_tasks.errors import DicomNotAnImage, InputError, StudyEmpty, StudyTooLarge

GO_ON = 'Pass gaps="report" to go on.'


def find_frames(
    files: Sequence[StudyFile], limits: Limits, *, refuse: bool
) -> tuple[list[Frame], Counter[str], list[InputError]]:
    """All images, what was left out by its kind, and what is damaged.

    ``refuse``: whether to raise the first damage instead. A single file's is always raised.
    """
    frames: list[Frame] = []
    instances: set[str] = set()
    left_out: Counter[str] = Counter()
    damage: list[InputError] = []
    others = 0
    headers = Headers(limits)
    for number, file in enumerate(files, 1):
        head = file.head(HEAD)
        if not is_dicom(head):
            others += 1
            continue
        try:
            new = headers.frames(file, head, len(frames))
        except DicomNotAnImage as error:
            left_out[f"{error.details['sop_class']}, no image"] += 1
            if len(files) == 1:
                raise
        except StudyTooLarge:
            raise
        except InputError as error:
            if len(files) == 1:
                raise
            told = numbered(error, "File", number, len(files))
            if refuse:
                raise told_how(told) from None
            damage.append(told)
        else:
            instance = new[0].tags.instance
            if instance and instance in instances:
                left_out["a copy of an image that is there already"] += 1
                continue
            instances.add(instance)
            frames += new
    if others and (frames or damage or left_out):
        left_out["no DICOM"] = others
    return frames, left_out, damage


def numbered(error: InputError, what: str, number: int, count: int) -> InputError:
    """The same, with which one it is about; ``what``: "File" or "Image"."""
    message = f"{what} {number} of {count}: {error.message}"
    return type(error)(message, **error.details)


def told_how(error: InputError) -> InputError:
    """The same, with the way to go on all the same."""
    return type(error)(f"{error.message} {GO_ON}", **error.details)


def nothing(files: Sequence[StudyFile], left_out: Counter[str]) -> StudyEmpty:
    """What to raise where all was left out."""
    said = "; ".join(f"{count} x {what}" for what, count in left_out.items())
    return StudyEmpty(
        f"None of the {len(files)} files of the study is an image to be shown: {said}.",
        left_out=dict(left_out),
    )
