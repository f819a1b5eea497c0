"""What a backfill would do, told without doing it: no pixel is decoded, and nothing written."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from medgemma_client.backfill.reading import Looked, Readers
from medgemma_client.backfill.rows import BadRow, Row
from medgemma_client.question import make_options
from medgemma_tasks.errors import DuplicateItem, MedGemmaError
from medgemma_tasks.models import Options, ServedModel, WorkerHealth
from medgemma_tasks.settings import Settings

_CHARACTERS_A_TOKEN = 4
"""Of English text, roughly."""


@dataclass(frozen=True)
class Estimate:
    """How long a fleet would take."""

    seconds: float | None
    """None where nothing is known of it."""
    because: str
    """What the figure rests on, or why there is none; a sentence."""


@dataclass(frozen=True)
class Plan:
    """What would be asked."""

    rows: int
    """That can be asked, as far as their images' headers tell."""
    refused: int
    images: int
    tokens: int
    """Of all rows that can be asked: their images, texts (four characters counted as one), and
    answers of the greatest length."""
    estimate: Estimate


def plan(
    rows: Iterable[Row | BadRow],
    *,
    settings: Settings,
    base: Path,
    served: ServedModel,
    fleet: Sequence[WorkerHealth],
    refuse: Callable[[BadRow], None],
    buckets: Sequence[str] = (),
    processes: int | None = None,
) -> Plan:
    """Look at all rows, and count.

    Args:
        rows: Of a manifest, as ``read_rows`` gives them.
        settings, base, buckets, processes: As for ``Readers``.
        served: The model that would be asked.
        fleet: What all workers say of themselves (``medgemma_tasks.workers.workers``).
        refuse: Told each row that would be refused, as it is found, in no order. A row of which
            only the pixels are damaged is not among them.

    Raises:
        ManifestUnusable, FileUnreadable, PartMissing: As ``read_rows``.
    """
    good = refused = images = tokens = 0
    with Readers(settings, base=base, buckets=buckets, processes=processes) as readers:
        for found in readers.look(_once_each(rows)):
            told = found if isinstance(found, BadRow) else _tokens(found, served)
            if isinstance(told, BadRow):
                refused += 1
                refuse(told)
            elif isinstance(found, Looked):
                good += 1
                images += found.images
                tokens += told
    return Plan(good, refused, images, tokens, estimate(good, served.name, fleet))


def estimate(jobs: int, model: str, fleet: Iterable[WorkerHealth]) -> Estimate:
    """How long the workers of a model would take that serve it now, by what each has measured."""
    serving = [worker for worker in fleet if worker.model == model and worker.state.serves]
    rates = [worker.rate for worker in serving if worker.rate is not None]
    if not serving:
        return Estimate(None, f"No estimate can be made: no worker serves {model}.")
    if not rates:
        return Estimate(None, "No estimate can be made: no worker has measured its rate yet.")
    return Estimate(
        jobs / sum(rates),
        f"{len(rates)} of {len(serving)} workers have measured {sum(rates):.3g} jobs a second.",
    )


def _tokens(looked: Looked, served: ServedModel) -> int | BadRow:
    row = looked.row
    options = {name: row.options[name] for name in Options.model_fields if name in row.options}
    try:
        new = make_options(looked.images, served, **options).max_new_tokens
    except MedGemmaError as error:
        return BadRow.of(row.number, row.item, error)
    parts = [row.prompt] if isinstance(row.prompt, str) else row.prompt
    texts = [part for part in (*parts, row.system, row.answer) if isinstance(part, str)]
    spoken = -(-sum(map(len, texts)) // _CHARACTERS_A_TOKEN)
    # A given answer is read, and none generated.
    return looked.images * served.tokens_per_image + spoken + (0 if row.answer else new)


def _once_each(rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
    """The rows; of those with one item the first. A database of its own, on disk once it is large,
    so that memory does not grow."""
    with closing(sqlite3.connect("", check_same_thread=False)) as seen:
        seen.execute("create table seen (item text primary key) without rowid")
        for row in rows:
            if isinstance(row, Row):
                added = seen.execute("insert or ignore into seen values (?)", (row.item,))
                if not added.rowcount:
                    error = DuplicateItem("The item is that of an earlier row. Give it another.")
                    yield BadRow.of(row.number, row.item, error)
                    continue
            yield row
