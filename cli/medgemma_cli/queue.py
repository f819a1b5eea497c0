"""queue: what waits, and who works on it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medgemma_cli.jobs import Json
from medgemma_tasks.errors import BrokerUnreachable

if TYPE_CHECKING:
    from medgemma_tasks.backlog import Waiting
    from medgemma_tasks.live import LiveState
    from medgemma_tasks.models import WorkerHealth

SHORT_ID = 12
"""Digits of a job's id in a terminal. A pipe, and --json, have them all."""

NARROWEST = 8
"""Characters to which a long name may be cut in a terminal."""

EVERY = 2.0
"""Seconds between two looks of --watch."""

CLEARED = "\x1b[H\x1b[2J\x1b[3J"
"""What empties a terminal."""

NONE = "-"

DRAINED = "drained"
"""A worker that was taken out, and holds nothing any more. One that still does is draining."""


def queue(
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every 2 s, in a terminal, until Ctrl-C.")
    ] = False,
) -> None:
    """Show what waits on the queues of all models, and what each worker does."""
    from medgemma_tasks.live import LiveState
    from medgemma_tasks.settings import load_settings

    if watch and (as_json or not sys.stdout.isatty()):
        raise typer.BadParameter("--watch is for a terminal; else call it again and again")
    live = LiveState(load_settings())
    while watch:
        _show_anew(live)
        time.sleep(EVERY)
    found = _look(live)
    print(_as_json(found)) if as_json else _show(found)


@dataclass(frozen=True)
class _Found:
    """What was there at a moment."""

    queues: Sequence[Waiting]
    team: Sequence[WorkerHealth]
    lost: Mapping[str, int]


def _look(live: LiveState) -> _Found:
    """Raises BrokerUnreachable."""
    from medgemma_tasks import backlog, workers

    live.ping()
    with live.connected() as redis:
        queues = backlog.waiting(redis, _Requests(live).submitted_at)
        team = workers.workers(redis)
    return _Found(queues, team, live.dropped())


def _show_anew(live: LiveState) -> None:
    """Over what stood there, once all is known: nothing flickers while Redis is asked."""
    found: _Found | str
    try:
        found = _look(live)
    except BrokerUnreachable as error:
        found = error.message
    print(CLEARED, end="")
    if isinstance(found, str):
        print(f"{found} Asked again in {EVERY:.0f} s.")
    else:
        _show(found)


def _as_json(found: _Found) -> str:
    return json.dumps(
        {
            "queues": [asdict(queue) for queue in found.queues],
            "workers": [worker.model_dump(mode="json") for worker in found.team],
            "dropped": found.lost,
        },
        default=datetime.isoformat,
    )


def _show(found: _Found) -> None:
    queues, team, lost = found.queues, found.team, found.lost
    now = datetime.now(UTC)
    if queues:
        print_table([_QUEUES, *(_queue(queue, now) for queue in queues)], cut=(0,))
    else:
        print("Nothing is queued.")
    if team:
        print()
        rows = [_WORKERS, *(_worker(worker, now) for worker in team)]
        if len({worker.model for worker in team}) == 1:
            rows = [row[1:] for row in rows]
        print_table(rows, cut=(0, 1, 2)[: len(rows[0]) - 7])
    for word in (*_bulk_first(team), *_dropped(lost), *_missing(queues, team)):
        print(f"\n{word}")


class _Requests:
    """The store, as far as it tells the age of a job."""

    def __init__(self, live: LiveState) -> None:
        from medgemma_tasks.store import Store

        self._live = live
        self._store = Store(live.settings)

    def submitted_at(self, tenant: str, job_id: str) -> datetime | None:
        from medgemma_tasks.errors import MedGemmaError
        from medgemma_tasks.ledger import Ledger

        try:
            request = Ledger(self._store, self._live.of_tenant(tenant)).request(job_id)
        except MedGemmaError as error:
            print(f"The age of the oldest job is not known ({error.code}).", file=sys.stderr)
            return None
        return None if request is None else request.submitted_at


_QUEUES = ["MODEL", "QUEUE", "MESSAGES", "JOBS", "OLDEST", "DELIVERED"]
_WORKERS = ["MODEL", "WORKER", "DEVICE", "STATE", "FOR", "JOB", "STAGE", "DONE", "BEAT"]


def _queue(queue: Waiting, now: datetime) -> list[str]:
    numbers = [str(queue.messages), str(queue.jobs)]
    return [queue.model, queue.kind, *numbers, _since(queue.oldest, now), str(queue.delivered)]


def _worker(worker: WorkerHealth, now: datetime) -> list[str]:
    job, stage = NONE, NONE
    if worker.job is not None:
        job = worker.job.job_id[: SHORT_ID if sys.stdout.isatty() else None]
        stage = NONE if worker.job.stage is None else worker.job.stage.value
    beat = NONE if worker.beat_seconds is None else _seconds(worker.beat_seconds)
    names = [worker.model, worker.name, worker.device]
    since = _since(worker.since, now)
    # A state of its own to whoever waits for it.
    state = DRAINED if worker.drained else worker.state.value
    return [*names, state, since, job, stage, str(worker.done), beat]


def _missing(queues: Sequence[Waiting], team: Sequence[WorkerHealth]) -> list[str]:
    """A sentence for each model whose jobs nobody takes; one where there is no worker at all."""
    serving = {worker.model for worker in team if worker.state.serves}
    if not serving:
        return ["No worker is ready: " + (_states(team) if team else "there is none.")]
    waiting = sorted({queue.model for queue in queues} - serving)
    return [f"No worker of {model} is ready: its jobs wait." for model in waiting]


def _bulk_first(team: Sequence[WorkerHealth]) -> list[str]:
    """A sentence for each worker that turns the order of its queues round."""
    return [f"{worker.name} serves the batch queue first." for worker in team if worker.bulk_first]


def _dropped(lost: Mapping[str, int]) -> list[str]:
    """A sentence for each place where something was dropped of late."""
    from medgemma_tasks.dropped import NO_REQUEST

    what = {NO_REQUEST: "jobs that nobody submitted"}
    return [
        f"Dropped of late, {what.get(place, f'messages of {place} that hold no jobs')}: {number}."
        for place, number in lost.items()
    ]


def _states(team: Sequence[WorkerHealth]) -> str:
    """How many workers are in which state, in words."""
    states = [worker.state.value for worker in team]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return ", ".join(counts) + "."


def _since(moment: datetime | None, now: datetime) -> str:
    # The clocks of two machines may differ.
    return NONE if moment is None else _seconds(max((now - moment).total_seconds(), 0.0))


def _seconds(seconds: float) -> str:
    """A duration in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def print_table(rows: Sequence[Sequence[str]], cut: Sequence[int]) -> None:
    """Rows of text below each other; numbers to the right.

    In a terminal that is too narrow the columns ``cut`` are shortened, the widest first.
    """
    columns: list[Any] = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    if sys.stdout.isatty():
        excess = sum(widths) + 2 * (len(widths) - 1) - shutil.get_terminal_size().columns
        while excess > 0 and (widest := max(cut, key=lambda k: widths[k])) is not None:
            if widths[widest] <= NARROWEST:
                break
            widths[widest] -= 1
            excess -= 1
    for row in rows:
        cells = [
            text.rjust(width) if right else _shortened(text, width).ljust(width)
            for text, width, right in zip(row, widths, map(_numeric, columns), strict=True)
        ]
        print("  ".join(cells).rstrip())


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _numeric(column: Sequence[str]) -> bool:
    return all(text == NONE or text[0].isdecimal() for text in column[1:])
