"""The journal of a run: what a row came to outlives the process that found it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from medgemma_client.backfill.item import RowState
from medgemma_client.backfill.journal import Journal
from medgemma_client.backfill.rows import BadRow, Row
from medgemma_tasks.errors import FileUnwritable, InvalidRequest
from tests.parts import JOB, OTHER_JOB


def row(item: str, number: int = 2, prompt: str = "What?", **fields: Any) -> Row:
    return Row(number=number, item=item, images=("x.png",), prompt=prompt, **fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def opened(path: Path, run: str = "run-1", place: str = "here") -> Journal:
    return Journal(path, run, place)


def killed(journal: Journal) -> None:
    """What was not committed is gone."""
    journal._db.close()


def test_what_a_row_came_to_is_known_to_the_next_process(path: Path) -> None:
    journal = opened(path)
    assert [met.state for met in journal.meet([row("a"), row("b", 3), row("c", 4)])] == [
        RowState.WAITING
    ] * 3
    journal.submitted([("a", JOB), ("b", OTHER_JOB)])
    journal.ended("a", state=RowState.SUCCEEDED, answer="Yes.", peak="left")
    killed(journal)
    a, b, c = opened(path).meet([row("a"), row("b", 3), row("c", 4)])
    assert (a.state, a.job_id) == (RowState.SUCCEEDED, JOB)
    assert a.item is not None
    assert (a.item.answer, a.item.peak, a.item.earlier) == ("Yes.", "left", True)
    assert (b.state, b.job_id, b.item) == (RowState.SUBMITTED, OTHER_JOB, None)
    assert (c.state, c.job_id) == (RowState.WAITING, None)


def test_a_row_that_changed_is_another(path: Path) -> None:
    for change in ({"prompt": "Where?"}, {"metadata": {"ward": "4"}}, {"system": "Be brief."}):
        journal = opened(path)
        journal.meet([row("a")])
        journal.ended("a", state=RowState.SUCCEEDED)
        journal.close()
        journal = opened(path)
        assert journal.meet([row("a", **change)])[0].state is RowState.WAITING  # type: ignore[arg-type]
        journal.close()
    journal = opened(path)
    journal.meet([row("a")])
    journal.ended("a", state=RowState.SUCCEEDED)
    journal.close()
    # Where it stands is no part of it; what its paths start from, and the model, is.
    journal = opened(path)
    assert journal.meet([row("a", 7)])[0].state is RowState.SUCCEEDED
    journal.close()
    assert opened(path, place="elsewhere").meet([row("a")])[0].state is RowState.WAITING


def test_an_item_that_comes_twice_is_found_within_a_page_and_beyond(path: Path) -> None:
    journal = opened(path)
    first, again = journal.meet([row("a", 2), row("a", 3, "Else?")])
    assert (first.state, again.state, again.first) == (RowState.WAITING, None, 2)
    later = journal.meet([row("a", 4)])[0]
    assert (later.state, later.first) == (None, 2)


def test_rows_are_told_in_the_order_of_the_manifest_as_it_is_now(path: Path) -> None:
    journal = opened(path)
    journal.meet([row("a", 2), row("b", 3)])
    for item in "ab":
        journal.ended(item, state=RowState.SUCCEEDED)
    journal.close()
    journal = opened(path)
    journal.meet([row("b", 2), row("c", 4)])
    journal.refuse_line(BadRow(3, None, "row_malformed", "It cannot be read."))
    journal.ended("c", state=RowState.REFUSED, code="not_an_image", message="It is none.")
    assert [(i.number, i.item) for i in journal.items(whole=True)] == [
        (2, "b"),
        (3, None),
        (4, "c"),
    ]
    assert len(list(journal.items(whole=False))) == 4
    counts = journal.counts(whole=True)
    assert (counts["succeeded"], counts["refused"], counts["waiting"]) == (1, 2, 0)
    assert journal.codes(whole=True) == {"not_an_image": 1, "row_malformed": 1}


def test_jobs_keep_their_places(path: Path) -> None:
    journal = opened(path)
    journal.meet([row("a", 2), row("b", 3)])
    journal.submitted([("b", JOB)])
    journal.submitted([("a", OTHER_JOB)])
    journal.submitted([("b", JOB)])  # again
    journal.close()
    assert opened(path).jobs(0, 10) == [(JOB, 3), (OTHER_JOB, 2)]


def test_the_journal_of_another_run_is_not_taken(path: Path) -> None:
    opened(path).close()
    with pytest.raises(InvalidRequest, match="run-1"):
        opened(path, "run-2")


def test_a_disk_that_is_full_is_said_so_and_nothing_is_lost(path: Path) -> None:
    journal = opened(path)
    journal.meet([row("a")])
    journal.submitted([("a", JOB)])
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    long = [row(f"row {k}", 3 + k, metadata={"note": "x" * 1000}) for k in range(200)]
    with pytest.raises(FileUnwritable, match="SQLITE_FULL") as caught:
        journal.meet(long)
    assert str(path) not in caught.value.message
    killed(journal)
    again = opened(path)
    assert again.meet([row("a")])[0].job_id == JOB


def test_what_is_no_journal_is_not_written_over(path: Path) -> None:
    path.write_text("something else, " * 100)
    with pytest.raises(FileUnwritable):
        opened(path)
    assert path.read_text().startswith("something else")
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("SELECT * FROM rows")
