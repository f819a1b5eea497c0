"""How this worker is, said in Redis by its parent: on each change, and every few seconds.

That its process is there proves nothing. So what counts is the beat of the child's main thread, by
a timer's signal, and that the queue answered the parent when it asked for work.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery.worker import state as celery_state

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.in_hand import interval
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Stage, WorkerHealth, WorkersJob, WorkerState
from medgemma_tasks.settings import Settings
from medgemma_tasks.workers import forget, say, worker
from medgemma_worker.board import Board
from medgemma_worker.parent.repeated import Repeated
from medgemma_worker.post import post_of

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at the board."""

AWAY_PAUSE = 5.0
"""Seconds without a word after one that did not reach Redis: each holds up the parent."""

LONGEST_SILENCE = 30.0
"""Seconds without a beat, or without an answer of the queue, after which a worker is defunct; half
the visibility timeout where that is less, as tests have it.

The beat is a signal's handler, which Python runs between two bytecodes, so a call into C holds it
up. The longest honest ones (a step of a large model, a block of the backward pass, packing an
artifact) take seconds; while the model loads no beat is asked for. The queue answers each second.
Nothing is killed for its silence, the hard limit is there for that: it only is told."""


@dataclass(frozen=True)
class Seen:
    """What the parent sees, in seconds where it is a time."""

    failed: bool = False
    ready: bool = False
    busy: bool = False
    taken_out: bool = False
    stopping: bool = False
    silent: float = 0.0
    """Since the child's last beat."""
    unanswered: float = 0.0
    """Since the queue last answered, or since there was reason to ask it."""
    overdue: float = 0.0
    """Since the hard limit of the message in hand passed; nothing or less before that."""


def state_of(seen: Seen, silence: float) -> WorkerState:
    """How a worker is, by what is seen of it; ``silence`` is how many seconds of it are too many.

    A job past its hard limit is busy for as long, in which its child is to be killed.
    """
    if seen.failed:
        return WorkerState.SETUP_FAILED
    if not seen.ready:
        waits = WorkerState.DRAINING if seen.taken_out else WorkerState.STARTING
        return WorkerState.STOPPING if seen.stopping else waits
    if seen.silent > silence:
        return WorkerState.DEFUNCT
    if seen.busy and seen.overdue > silence:
        return WorkerState.DEFUNCT
    if seen.stopping:
        return WorkerState.STOPPING
    if seen.taken_out:
        return WorkerState.DRAINING
    if seen.busy:
        return WorkerState.BUSY
    return WorkerState.DEFUNCT if seen.unanswered > silence else WorkerState.READY


class Health(Repeated):
    """A step of the consumer: while it consumes, its worker says how it is."""

    def begin(self, consumer: Any) -> tuple[float, Callable[[], None]]:
        voice: Voice = consumer.app.voice
        voice.arrive(consumer.hostname)
        return LOOK, voice.look


class Voice:
    """What says how a worker is. Nothing here raises: the next time may do better.

    It outlives the consumer's steps, which start again after each loss of the connection.
    """

    def __init__(self, settings: Settings, board: Board, live: LiveState) -> None:
        self._settings = settings
        self._board = board
        self._live = live
        self._name = ""
        self._post = post_of(os.environ, board.owner)
        self._stopping = False
        self._started_at = self._since = datetime.now(UTC)
        self._reason_to_ask = 0.0
        """When there last was one to ask the queue, on the monotonic clock; as those below."""
        self._doing: tuple[WorkerState, tuple[str, str] | None] | None = None
        self._said: tuple[WorkerState, WorkersJob | None, bool] | None = None
        self._due = 0.0
        self._not_before = 0.0

    def arrive(self, name: str) -> None:
        """The worker, of this name, has its connection: the queue is asked from now on."""
        self._name = name
        self._reason_to_ask = time.monotonic()
        self._said = None  # Redis may have lost what was said before
        self.look()

    def look(self) -> None:
        """Say how the worker is, where that has changed or it is time to say it again. One that
        did not arrive yet has nothing to say."""
        if not self._name:
            return
        now = time.monotonic()
        if not self._board.ready or self._board.busy or self._board.taken_out:
            self._reason_to_ask = now
        state, job = state_of(self._seen(now), longest_silence(self._settings)), self._job()
        doing = (state, None if job is None else (job.tenant, job.job_id))
        if doing != self._doing:
            self._doing, self._since = doing, datetime.now(UTC)
        saying = (state, job, self._board.emptied)
        if now >= self._not_before and (saying != self._said or now >= self._due):
            self._say(state, job, now)

    def stopping(self) -> None:
        """The worker was told to stop."""
        self._stopping = True
        self.look()

    def leave(self, name: str) -> None:
        """The worker has ended. That its model cannot be loaded is to be seen for a while."""
        self._name = name
        now = time.monotonic()
        if self._board.failed:
            self._since = datetime.now(UTC)
            self._say(WorkerState.SETUP_FAILED, None, now)
            return
        try:
            with self._live.connected() as redis:
                if not self._succeeded(redis):
                    forget(redis, self._settings.model, self._name)
        except BrokerUnreachable:
            log.warning("that this worker ended is not known: Redis is away")

    def _say(self, state: WorkerState, job: WorkersJob | None, now: float) -> None:
        board = self._board
        health = WorkerHealth(
            name=self._name,
            host=socket.gethostname(),
            model=self._settings.model,
            device=device_of(os.environ, self._settings.device),
            pid=os.getpid(),
            state=state,
            since=self._since,
            job=job,
            done=board.done,
            rate=board.rate or None,
            shard=board.advised or None,
            beat_seconds=round(now - board.beaten, 1) if board.beaten else None,
            poll_seconds=round(now - board.polled, 1) if board.polled else None,
            started_at=self._started_at,
            bulk_first=board.bulk_first,
            drained=board.emptied,
            post=self._post,
        )
        try:
            with self._live.connected() as redis:
                if state is not WorkerState.STOPPING or not self._succeeded(redis):
                    say(redis, health, self._settings.visibility_timeout)
        except BrokerUnreachable as error:
            log.warning("how this worker is was not made known (%s)", error.code)
            self._not_before = time.monotonic() + AWAY_PAUSE
            return
        self._said = (state, job, health.drained)
        self._due = now + interval(self._settings.visibility_timeout)

    def _succeeded(self, redis: Redis) -> bool:
        """Whether a worker of another supervisor has the name by now: one that was started where
        the last was killed, without waiting until its workers had ended. What it says stays."""
        there = worker(redis, self._settings.model, self._name)
        if there is None or there.post == self._post:
            return False
        return there.state.lives and there.state is not WorkerState.STOPPING

    def _seen(self, now: float) -> Seen:
        board = self._board
        return Seen(
            failed=board.failed,
            ready=board.ready,
            busy=board.busy,
            taken_out=board.taken_out,
            stopping=self._stopping,
            silent=now - board.beaten,
            unanswered=now - max(board.polled, self._reason_to_ask),
            overdue=_overdue(),
        )

    def _job(self) -> WorkersJob | None:
        jobs = self._board.in_hand
        if not (jobs and self._board.ready and self._board.busy):
            return None
        held = jobs[0]
        return WorkersJob(
            tenant=held.tenant,
            job_id=held.job_id,
            attempt=held.attempt,
            stage=None if held.stage is None else Stage(held.stage),
        )


def longest_silence(settings: Settings) -> float:
    """Seconds of silence after which a worker is defunct."""
    return min(LONGEST_SILENCE, settings.visibility_timeout / 2)


def device_of(environment: Mapping[str, str], wanted: str) -> str:
    """What a worker is shown, for people: ``cpu``, or what CUDA_VISIBLE_DEVICES says."""
    shown = environment.get("CUDA_VISIBLE_DEVICES")
    if shown in ("", "-1"):
        return "cpu"
    return shown or wanted


def _overdue() -> float:
    """Seconds since the hard limit of a message in hand passed: by then its child was killed."""
    late = [0.0]
    for request in list(celery_state.active_requests):
        hard = request.time_limits[0]
        if request.time_start and hard:
            late.append(time.time() - request.time_start - hard)
    return max(late)
