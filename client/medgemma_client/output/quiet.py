"""Building a data set without quoting it: highdicom and pydicom log and warn of values and UIDs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medgemma_tasks.errors import MedGemmaError, SourceIncomplete
from medgemma_tasks.quiet import without_logs, without_warnings

_LOGGERS = (
    "pydicom",
    "highdicom",
    "highdicom.base",
    "highdicom.content",
    "highdicom.image",
    "highdicom.sc.sop",
    "highdicom.valuerep",
)


@contextmanager
def building() -> Iterator[None]:
    """Whatever they raise becomes an error of ours that quotes nothing. Not to be nested."""
    with without_logs(*_LOGGERS), without_warnings():
        try:
            yield
        except MedGemmaError:
            raise
        except Exception as error:  # noqa: BLE001 - a strange header raises almost anything
            raise SourceIncomplete(
                "The source's header does not allow a DICOM object to be made of it "
                f"({type(error).__name__}). Pass the file as its archive holds it."
            ) from None
