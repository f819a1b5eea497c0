"""What a run has come to so far, in a file of SQLite beside its results: by it a run is resumed.

A row has its line here before a message of its job is published, so whatever ends the process, the
next one finds each job. Commits survive the death of the process; of those that a power cut takes,
the rows are submitted again, as the same jobs.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any

from medgemma_client.backfill import sql
from medgemma_client.backfill.item import Item, RowState
from medgemma_client.backfill.rows import BadRow, Row
from medgemma_tasks.errors import FileUnwritable, InvalidRequest

_COLUMNS = "number, item, state, job, answer, peak, code, message, metadata"
_COMMIT_EVERY = 500
"""Rows that were only met: losing that costs nothing but meeting them again."""


@dataclass(frozen=True)
class Met:
    """A row of the manifest, and what is known of it."""

    state: RowState | None
    """None: it has the item of an earlier row."""
    job_id: str | None = None
    code: str | None = None
    item: Item | None = None
    """Where it ended before."""
    first: int = 0
    """The row that has its item."""


class Journal:
    """The lines of one run, for several threads. Raises FileUnwritable where the disk is full."""

    def __init__(self, path: Path, run: str, place: str) -> None:
        """``place``: what a row depends on beside itself; see ``naming``. Raises InvalidRequest
        where the file is of another run."""
        self._lock = RLock()
        self._place = place
        self._unsaved = 0
        with _writing():
            self._db = sqlite3.connect(path, timeout=10, check_same_thread=False)
            self._db.isolation_level = None  # transactions are begun by hand
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(sql.SCHEMA)
            if (self.fact("run") or run) != run:
                raise InvalidRequest(
                    "The folder holds another run (its manifest, or something else of it, was "
                    f"changed). Choose another folder, or go on with that one by its name: "
                    f"{self.fact('run')}."
                )
            self.note("run", run)
            self._session = int(self.fact("session") or 0) + 1
            self.note("session", str(self._session))
            self._db.execute("DELETE FROM refused")  # they are met again, and cost little
        self._places = self._one("SELECT coalesce(max(place) + 1, 0) FROM rows")

    def close(self) -> None:
        with self._lock, _writing():
            self._save()
            self._db.close()

    # --- what is met and done ------------------------------------------------------------------

    def meet(self, rows: Sequence[Row]) -> list[Met]:
        """Remember that the manifest has these rows; what is known of each, from before too.

        One statement for all of them: with each, other threads take the interpreter's lock.
        """
        prints = [self._fingerprint(row) for row in rows]
        found: dict[str, Sequence[Any]] = {}
        mets, new, again = [], [], []
        with self._lock, _writing():
            for line in self._db.execute(
                f"SELECT {_COLUMNS}, fingerprint, met FROM rows "  # noqa: S608
                "WHERE item IN (SELECT value FROM json_each(?))",
                (json.dumps([row.item for row in rows]),),
            ):
                found[line[1]] = line
            here: dict[str, int] = {}
            for row, fingerprint in zip(rows, prints, strict=True):
                known = found.get(row.item)
                first = here.setdefault(row.item, row.number)
                if first != row.number or (known is not None and known[-1] == self._session):
                    mets.append(Met(None, first=first if known is None else known[0]))
                elif known is None or known[-2] != fingerprint:
                    new.append((row.item, row.number, fingerprint, json.dumps(dict(row.metadata))))
                    mets.append(Met(RowState.WAITING))
                else:
                    again.append((row.item, row.number))
                    mets.append(_met((row.number, *known[1:-2])))
            self._change(len(rows))
            self._db.execute(sql.MEET, (RowState.WAITING, self._session, json.dumps(new)))
            self._db.execute(sql.MEET_AGAIN, (self._session, json.dumps(again)))
        return mets

    def submitted(self, rows: Sequence[tuple[str, str]]) -> None:
        """Item and job id of rows whose requests lie in the store."""
        with self._lock, _writing():
            placed = [(*row, self._places + k) for k, row in enumerate(rows)]
            self._places += len(rows)
            self._change()
            self._db.execute(sql.SUBMIT, (RowState.SUBMITTED, json.dumps(placed)))
            self._save()

    def ended(self, item: str, **came_to: Any) -> Item:
        """A row came to this: state, answer, peak, code, message."""
        names = ", ".join(f"{name} = ?" for name in came_to)
        with self._lock, _writing():
            self._change()
            self._db.execute(
                f"UPDATE rows SET {names} WHERE item = ?",  # noqa: S608
                (*came_to.values(), item),
            )
            self._save()
            found = self._db.execute(
                f"SELECT {_COLUMNS} FROM rows WHERE item = ?",  # noqa: S608
                (item,),
            ).fetchone()
        return _item(found)

    def refuse_line(self, bad: BadRow) -> Item:
        """A line of the manifest that is no row."""
        with self._lock, _writing():
            self._change()
            self._db.execute(
                "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)",
                (bad.number, bad.item, bad.code, bad.message),
            )
        return _refused((bad.number, bad.item, bad.code, bad.message))

    # --- what is read at the end ---------------------------------------------------------------

    def items(self, *, whole: bool) -> Iterator[Item]:
        """All rows in the order of the manifest; ``whole``: only those that it has now, since it
        was read to its end."""
        met = self._session if whole else 0
        with self._lock, _writing():
            self._save()
            found = self._db.execute(
                f"SELECT {_COLUMNS} FROM rows WHERE met >= ? AND state != ? "  # noqa: S608
                "UNION ALL SELECT number, item, 'refused', NULL, NULL, NULL, code, message, '{}' "
                "FROM refused ORDER BY number",
                (met, RowState.WAITING),
            )
            yield from map(_item, found)

    def counts(self, *, whole: bool) -> dict[str, int]:
        """How many rows stand where."""
        with self._lock, _writing():
            met = self._session if whole else 0
            found = dict(
                self._db.execute(
                    "SELECT state, count(*) FROM rows WHERE met >= ? GROUP BY state", (met,)
                )
            )
            refused = self._one("SELECT count(*) FROM refused")
        counts = {state.value: int(found.get(state.value, 0)) for state in RowState}
        counts[RowState.REFUSED.value] += refused
        return counts

    def codes(self, *, whole: bool) -> dict[str, int]:
        """How many rows ended by which code."""
        with self._lock, _writing():
            return dict(
                self._db.execute(
                    "SELECT code, count(*) FROM (SELECT code FROM rows WHERE met >= ? AND code "
                    "IS NOT NULL UNION ALL SELECT code FROM refused) GROUP BY code ORDER BY code",
                    (self._session if whole else 0,),
                )
            )

    def jobs(self, start: int, end: int) -> list[tuple[str, int]]:
        """Job id and number of the rows in these places: in the order of their submission."""
        with self._lock, _writing():
            return self._db.execute(
                "SELECT job, number FROM rows WHERE place >= ? AND place < ? ORDER BY place",
                (start, end),
            ).fetchall()

    @property
    def places(self) -> int:
        """One more than the last place that is taken."""
        return self._places

    # --- what is known of the run itself -------------------------------------------------------

    def fact(self, name: str) -> str | None:
        with self._lock:
            found = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def note(self, name: str, value: str) -> None:
        with self._lock, _writing():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    def _change(self, rows: int = 1) -> None:
        """Be within a transaction, and end one that has become long."""
        if self._unsaved >= _COMMIT_EVERY:
            self._save()
        if not self._db.in_transaction:
            self._db.execute("BEGIN")
        self._unsaved += rows

    def _fingerprint(self, row: Row) -> str:
        return hashlib.sha256((self._place + row.fingerprint()).encode()).hexdigest()

    def _save(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._unsaved = 0


def _met(found: Sequence[Any]) -> Met:
    item = _item(found, earlier=True)
    return Met(item.state, item.job_id, item.code, item if item.state.ended else None)


def _item(found: Sequence[Any], *, earlier: bool = False) -> Item:
    number, item, state, job, answer, peak, code, message, metadata = found
    return Item(
        number=number,
        item=item,
        state=RowState(state),
        job_id=job,
        answer=answer,
        peak=peak,
        code=code,
        message=message,
        metadata=json.loads(metadata),
        earlier=earlier,
    )


def _refused(found: Sequence[Any]) -> Item:
    number, item, code, message = found
    return Item(number=number, item=item, state=RowState.REFUSED, code=code, message=message)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        # Its text names the file; its code says enough.
        why = getattr(error, "sqlite_errorname", type(error).__name__)
        raise FileUnwritable(
            f"The journal of the run cannot be written ({why}). Is the disk full? The run goes on "
            "where it stopped when it is started again."
        ) from None
