"""An object as a listing of the store shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any


@dataclass(frozen=True)
class Entry:
    """An object in a listing: its key, and when it was last written by the server's clock."""

    key: str
    written_at: datetime
    size: int
    """Bytes."""
    age: float
    """Seconds from then to the listing, both by the server: our own clock has no part in it."""


def entries_of(page: Any, cut: Callable[[str], str]) -> Iterator[Entry]:
    """What boto's page of a listing holds; ``cut`` makes a key relative to our prefix."""
    items = page.get("Contents", [])
    now = _time_of(page, [item["LastModified"] for item in items])
    for item in items:
        written_at = item["LastModified"]
        age = (now - written_at).total_seconds()
        yield Entry(cut(item["Key"]), written_at, item["Size"], age)


def _time_of(page: Any, written: list[datetime]) -> datetime:
    """When a server made a page, in whole seconds. One that does not say made it no earlier than
    what is newest on it, so that nothing looks older than it is."""
    try:
        return parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, TypeError, ValueError):
        return max(written, default=datetime.now(UTC))
