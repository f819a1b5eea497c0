"""A run says that it is complete only if it is, and by what it was broken off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from medgemma_client.backfill.choices import Choices
from medgemma_client.backfill.item import Item
from medgemma_client.backfill.journal import Journal
from medgemma_client.backfill.leaving import Leavings
from medgemma_client.backfill.reading import Readers
from medgemma_client.backfill.rows import Row
from medgemma_client.backfill.run import Backfill
from medgemma_client.client import Client
from medgemma_tasks.errors import InternalError


class Forgetful(Backfill):
    """Has told of all rows, it thinks."""

    def _work(self, journal: Journal, leavings: Leavings) -> Iterator[Item]:
        journal.meet([Row(number=1, item="forgotten", images=(), prompt="What?")])
        return iter(())


def test_a_run_that_forgot_a_row_does_not_say_that_it_is_complete(
    client: Client, tmp_path: Path
) -> None:
    run = Forgetful(client._ledger, client._live, [], choices=Choices(out=tmp_path / "out"))
    with pytest.raises(InternalError, match="Of the rows 1 have not ended"):
        list(run)
    assert run.summary["complete"] is False
    assert run.summary["waiting"] == 1


class Interrupted(Backfill):
    """By a Ctrl-C before its threads are started."""

    def _readers(self) -> Readers:
        raise KeyboardInterrupt


def test_a_run_that_is_interrupted_as_it_begins_says_so_and_nothing_else(
    client: Client, tmp_path: Path
) -> None:
    run = Interrupted(client._ledger, client._live, [], choices=Choices(out=tmp_path / "out"))
    with pytest.raises(KeyboardInterrupt):
        list(run)
    assert run.summary["complete"] is False
