"""How far a backfill is: a bar where somebody watches, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medgemma_client.backfill.item import Item
    from medgemma_client.backfill.run import Backfill

LINE_EVERY = 30.0
"""Seconds between two lines."""
WINDOW = 30.0
"""Seconds over which the rate is taken."""

Tell = Callable[["Item"], None]


class Tally:
    """What has ended, and how fast it does."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.done = self.failed = 0
        """Rows that ended, and those of them that did not succeed."""
        self._clock = clock
        self._lately: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._here = 0

    def add(self, item: Item) -> None:
        self.done += 1
        self.failed += item.code is not None or item.state.value == "cancelled"
        if item.earlier:
            return  # what had ended before says nothing of how fast it goes
        self._here += 1
        now = self._clock()
        if now - self._lately[-1][0] >= 0.2:
            self._lately.append((now, self._here))
        while len(self._lately) > 2 and now - self._lately[0][0] > WINDOW:
            self._lately.popleft()

    @property
    def rate(self) -> float:
        """Rows a second, lately."""
        then, before = self._lately[0]
        return (self._here - before) / max(self._clock() - then, 1e-9)

    def left(self, total: int | None) -> float | None:
        """Seconds until all have ended, as it goes now; None where that cannot be said."""
        if total is None or self._here < 5 or self.rate <= 0:
            return None
        return max(total - self.done, 0) / self.rate

    def words(self, total: int | None) -> str:
        left = self.left(total)
        of = "" if total is None else f" of {total:,}"
        ends = "" if left is None else f", {duration(left)} left"
        return f"{self.done:,}{of} done, {self.failed:,} failed, {self.rate:.1f}/s{ends}"


@contextmanager
def told(work: Backfill, *, quiet: bool) -> Iterator[Tell]:
    """What to tell each item to."""
    tally = Tally()
    if quiet:
        yield tally.add
    elif sys.stderr.isatty():
        with _bar(work, tally) as tell:
            yield tell
    else:
        print(f"run {work.run}", file=sys.stderr, flush=True)
        said_at = time.monotonic()

        def tell(item: Item) -> None:
            nonlocal said_at
            tally.add(item)
            if time.monotonic() - said_at >= LINE_EVERY:
                said_at = time.monotonic()
                print(tally.words(work.total), file=sys.stderr, flush=True)

        yield tell


@contextmanager
def _bar(work: Backfill, tally: Tally) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Words(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(tally.words(work.total))

    columns = (TextColumn(work.run), BarColumn(bar_width=20), Words())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=work.total)

        def tell(item: Item) -> None:
            tally.add(item)
            bar.update(task, completed=tally.done, total=work.total)

        yield tell


def duration(seconds: float) -> str:
    """Days and hours, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
