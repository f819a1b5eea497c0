"""Making a model from what a caller said, so that what is wrong is told without being quoted."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from medgemma_tasks.errors import InvalidRequest

M = TypeVar("M", bound=BaseModel)


def make(kind: type[M], what: str, /, **fields: object) -> M:
    """A model, or InvalidRequest that says which field was wrong and quotes none of it."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise InvalidRequest(f"The {what} cannot be used. {faults}.") from None
