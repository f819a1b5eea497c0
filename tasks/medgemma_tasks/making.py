"""Making a model from what a caller said, so that what is wrong is told without being quoted."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medgemma_tasks.errors import InvalidRequest

M = TypeVar("M", bound=BaseModel)


def make(kind: type[M], what: str, /, **fields: object) -> M:
    """A model, or InvalidRequest that says which field was wrong and quotes none of it."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(
            _told(fault) for fault in error.errors(include_input=False, include_url=False)
        )
        raise InvalidRequest(f"The {what} cannot be used. {faults}.") from None


def _told(fault: ErrorDetails) -> str:
    place, message = fault["loc"], fault["msg"]
    # These two would name what stood there.
    if fault["type"] == "extra_forbidden":
        place, message = place[:-1], "it has a field that is not known here"
    elif fault["type"] == "union_tag_invalid":
        message = "it is of none of the known kinds"
    return ": ".join(filter(None, (".".join(map(str, place)), message)))
