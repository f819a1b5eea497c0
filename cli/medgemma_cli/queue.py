"""queue: what waits, and who works on it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from medgemma_cli.jobs import Json
from medgemma_cli.terminal import folded, table
from medgemma_tasks.errors import BrokerUnreachable

if TYPE_CHECKING:
    from medgemma_tasks.backlog import Waiting
    from medgemma_tasks.live import LiveState
    from medgemma_tasks.models import WorkerHealth

SHORT_ID = 8
"""Digits of a job's id in a terminal. A pipe, and --json, have them all."""

EVERY = 2.0
"""Seconds between two looks of --watch."""

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

    if watch and (as_json or not _can_watch()):
        raise typer.BadParameter("--watch is for a terminal; else call it again and again")
    live = LiveState(load_settings())
    if watch:
        _watch(live)
    found = _look(live)
    if found.trouble:
        print(found.trouble, file=sys.stderr)
    print(_as_json(found) if as_json else "\n".join(_lines(found)))


@dataclass(frozen=True)
class _Found:
    """What was there at a moment."""

    queues: Sequence[Waiting]
    team: Sequence[WorkerHealth]
    lost: Mapping[str, int]
    trouble: str
    """A sentence about what could not be found out."""


def _look(live: LiveState) -> _Found:
    """Raises BrokerUnreachable."""
    from medgemma_tasks import backlog, workers

    live.ping()
    requests = _Requests(live)
    with live.connected() as redis:
        queues = backlog.waiting(redis, requests.submitted_at)
        team = workers.workers(redis)
    return _Found(queues, team, live.dropped(), requests.trouble)


def _can_watch() -> bool:
    from rich.console import Console

    return sys.stdout.isatty() and not Console(force_terminal=True).is_dumb_terminal


def _watch(live: LiveState) -> NoReturn:
    """On a screen of its own, which Ctrl-C leaves as it was; written over in one go."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(force_terminal=True), screen=True, auto_refresh=False) as screen:
        while True:
            now = f"{datetime.now():%H:%M:%S}, and again every {EVERY:.0f} s; Ctrl-C ends it.\n\n"
            shown = Text(now, "dim", no_wrap=True, overflow="ellipsis", end="")
            shown.append("\n".join(_fitting(_looked(live))), "not dim")
            screen.update(shown, refresh=True)
            time.sleep(EVERY)


def _looked(live: LiveState) -> list[str]:
    """What is there, or why that is not known."""
    try:
        found = _look(live)
    except BrokerUnreachable as error:
        return folded(error.message, sys.stdout).splitlines()
    text = "\n".join([*_lines(found, least=_LEAST), *([found.trouble] if found.trouble else [])])
    return text.splitlines()


def _fitting(lines: list[str]) -> list[str]:
    """As many of them as the screen has room for below its two of ours."""
    room = max(shutil.get_terminal_size().lines - 2, 1)
    if len(lines) <= room:
        return lines
    more = len(lines) - room + 1
    return [*lines[:-more], f"... and {more} more lines: make the window higher."]


def _as_json(found: _Found) -> str:
    return json.dumps(
        {
            "queues": [asdict(queue) for queue in found.queues],
            "workers": [worker.model_dump(mode="json") for worker in found.team],
            "dropped": found.lost,
        },
        default=datetime.isoformat,
    )


def _lines(found: _Found, least: Mapping[str, int] | None = None) -> Iterator[str]:
    queues, team, lost = found.queues, found.team, found.lost
    now = datetime.now(UTC)
    if queues:
        rows = [_QUEUES, *(_queue(queue, now) for queue in queues)]
        yield from table(rows, cut=_NAMES, right=_NUMBERS, least=least)
    else:
        yield "Nothing is queued."
    if team:
        yield ""
        rows = [_WORKERS, *(_worker(worker, now) for worker in team)]
        if len({worker.model for worker in team}) == 1:
            rows = [row[1:] for row in rows]
        yield from table(rows, cut=_NAMES, right=_NUMBERS, least=least)
    for word in (*_bulk_first(team), *_dropped(lost), *_missing(queues, team)):
        yield f"\n{folded(word, sys.stdout)}"


class _Requests:
    """The store, as far as it tells the age of a job."""

    def __init__(self, live: LiveState) -> None:
        from medgemma_tasks.store import Store

        self._live = live
        self._store = Store(live.settings)
        self.trouble = ""

    def submitted_at(self, tenant: str, job_id: str) -> datetime | None:
        from medgemma_tasks.errors import MedGemmaError
        from medgemma_tasks.ledger import Ledger

        try:
            request = Ledger(self._store, self._live.of_tenant(tenant)).request(job_id)
        except MedGemmaError as error:
            self.trouble = f"The age of the oldest job is not known ({error.code})."
            return None
        return None if request is None else request.submitted_at


_QUEUES = ["MODEL", "QUEUE", "MESSAGES", "JOBS", "OLDEST", "DELIVERED"]
_WORKERS = ["MODEL", "WORKER", "DEVICE", "STATE", "FOR", "JOB", "STAGE", "DONE", "BEAT"]
_NAMES = {"MODEL", "WORKER", "DEVICE"}
_NUMBERS = {"MESSAGES", "JOBS", "OLDEST", "DELIVERED", "FOR", "DONE", "BEAT"}
_LEAST = {"OLDEST": 6, "STATE": 8, "FOR": 6, "JOB": SHORT_ID, "STAGE": 10, "BEAT": 4}
"""Characters that these have whatever is in them, while it is watched."""


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
    return [*names, _state(worker), since, job, stage, str(worker.done), beat]


def _state(worker: WorkerHealth) -> str:
    """One that drains and is done with that has a state of its own: somebody waits for it."""
    return DRAINED if worker.drained else worker.state.value


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
    states = [_state(worker) for worker in team]
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
