"""One row of a run that came to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from medgemma_tasks.errors import JobNotFinished, MedGemmaError, error_from_code
from medgemma_tasks.models import ExplanationRecord

if TYPE_CHECKING:
    from medgemma_client.result import Result


class RowState(StrEnum):
    """Where a row stands. The last four are ends."""

    WAITING = "waiting"
    """It was met, and has no job yet."""
    SUBMITTED = "submitted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    """It cannot be asked: its line, or its images, cannot be used."""

    @property
    def ended(self) -> bool:
        return self not in (RowState.WAITING, RowState.SUBMITTED)


@dataclass(frozen=True, repr=False)
class Item:
    """A row that ended, and what it came to. Nothing of it belongs into a log but ids and codes."""

    number: int
    """Where it stands in its manifest; see ``rows.Row``."""
    item: str | None = field(repr=False)
    """What its caller calls it; None for a line that does not say."""
    state: RowState
    job_id: str | None = None
    answer: str | None = field(default=None, repr=False)
    peak: str | None = None
    """The zone with the largest share of the image that has most, in words."""
    code: str | None = None
    message: str | None = field(default=None, repr=False)
    """Why it failed: for people, and for no log."""
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    earlier: bool = False
    """It had ended before this run was started or resumed."""
    fetch: Callable[[str], Result] | None = None

    def __repr__(self) -> str:
        return f"Item({self.number}, {self.state.value}, job {self.job_id})"

    def result(self) -> Result:
        """The whole result, from the store. Raises the row's own error where it failed."""
        if self.state is RowState.SUCCEEDED and self.fetch is not None and self.job_id:
            return self.fetch(self.job_id)
        if self.code is not None:
            raise error_from_code(self.code, self.message or "", {})
        if self.state.ended:
            raise MedGemmaError(f"Row {self.number} {self.state.value}.")
        raise JobNotFinished(f"Row {self.number} has not ended.")


def peak_of(record: ExplanationRecord) -> str | None:
    """Where the first target's map holds most, in words; None without zones."""
    from medgemma_tasks.zones import in_words

    if not record.targets or not record.targets[0].maps:
        return None
    maps = record.targets[0].maps
    number, most = max(enumerate(maps, start=1), key=lambda pair: pair[1].share)
    if most.zones is None:
        return None
    which = f"image {number}, " if len(maps) > 1 else ""
    return which + in_words(most.zones, most=1)
