"""From whatever went wrong to what a job's record and the log say of it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator

from celery.exceptions import SoftTimeLimitExceeded

from medgemma_tasks.errors import InternalError, JobTimeLimit, MedGemmaError, OutOfMemory
from medgemma_tasks.models import ErrorRecord

TOO_LONG = "The job ran longer than MEDGEMMA_SOFT_TIME_LIMIT. Ask for fewer tokens or images."


def as_error(error: Exception, job_id: str) -> MedGemmaError:
    """The error of ours that stands for any exception. Quotes nothing of a foreign one."""
    if isinstance(error, MedGemmaError):
        return error
    if isinstance(error, SoftTimeLimitExceeded):
        return JobTimeLimit(TOO_LONG)
    if _out_of_memory(error):
        return OutOfMemory(
            "The device has too little memory for this job. Ask for fewer tokens or images."
        )
    return InternalError(
        f"The worker failed ({type(error).__name__}); its log has the trace under job {job_id}."
    )


def error_record(error: MedGemmaError) -> ErrorRecord:
    """An error as a record keeps it; details that are not plain JSON are left out."""
    try:
        details = json.loads(json.dumps(error.details, allow_nan=False))
    except (TypeError, ValueError):
        details = {}
    return ErrorRecord(code=error.code, message=error.message, details=details)


def trace(error: BaseException) -> str:
    """Where an exception came from: classes and lines of code, no message and no local variable.

    Either of those may quote a prompt or an answer.
    """
    return "\n".join(
        f"{type(link).__module__}.{type(link).__qualname__}\n"
        + "".join(traceback.format_tb(link.__traceback__))
        for link in _chain(error)
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _out_of_memory(error: Exception) -> bool:
    # torch is not imported here: its error is known by its name, and on the CPU by its words.
    if isinstance(error, MemoryError):
        return True
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
