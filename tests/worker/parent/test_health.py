"""How a worker is, by what its parent sees; and what it says of that."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import fakeredis
import pytest

from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Stage, WorkerHealth, WorkerState
from medgemma_tasks.settings import Settings
from medgemma_tasks.workers import workers
from medgemma_worker.board import Board
from medgemma_worker.parent.health import (
    LONGEST_SILENCE,
    Seen,
    Voice,
    device_of,
    longest_silence,
    state_of,
)
from medgemma_worker.places import InHand
from tests.parts import JOB

LONG, SHORT = 31.0, 29.0
"""Either side of a silence of 30 s."""
READY = Seen(ready=True, silent=0.5, unanswered=0.5)
BUSY = Seen(ready=True, busy=True, silent=0.5, unanswered=0.0)

CASES = [
    ("a child that never was ready", Seen(silent=1e9), WorkerState.STARTING),
    ("a load of minutes", Seen(silent=600, unanswered=600), WorkerState.STARTING),
    ("told to stop while it loads", Seen(stopping=True), WorkerState.STOPPING),
    ("taken out while it loads", Seen(taken_out=True), WorkerState.DRAINING),
    (
        "taken out",
        dataclasses.replace(READY, taken_out=True, unanswered=LONG),
        WorkerState.DRAINING,
    ),
    ("at work, taken out", dataclasses.replace(BUSY, taken_out=True), WorkerState.DRAINING),
    (
        "the same and silent",
        dataclasses.replace(BUSY, taken_out=True, silent=LONG),
        WorkerState.DEFUNCT,
    ),
    (
        "taken out, told to stop",
        dataclasses.replace(READY, taken_out=True, stopping=True),
        WorkerState.STOPPING,
    ),
    ("a model that cannot be loaded", Seen(failed=True), WorkerState.SETUP_FAILED),
    ("the same, being stopped", Seen(failed=True, stopping=True), WorkerState.SETUP_FAILED),
    ("idle", READY, WorkerState.READY),
    ("idle, told to stop", dataclasses.replace(READY, stopping=True), WorkerState.STOPPING),
    ("idle, a beat late", dataclasses.replace(READY, silent=SHORT), WorkerState.READY),
    ("idle and silent", dataclasses.replace(READY, silent=LONG), WorkerState.DEFUNCT),
    ("not answered of late", dataclasses.replace(READY, unanswered=SHORT), WorkerState.READY),
    ("deaf", dataclasses.replace(READY, unanswered=LONG), WorkerState.DEFUNCT),
    ("at work", BUSY, WorkerState.BUSY),
    ("at work, asking nothing", dataclasses.replace(BUSY, unanswered=LONG), WorkerState.BUSY),
    ("a long step", dataclasses.replace(BUSY, silent=SHORT), WorkerState.BUSY),
    ("at work and silent", dataclasses.replace(BUSY, silent=LONG), WorkerState.DEFUNCT),
    ("just past its hard limit", dataclasses.replace(BUSY, overdue=SHORT), WorkerState.BUSY),
    ("long past it, not killed", dataclasses.replace(BUSY, overdue=LONG), WorkerState.DEFUNCT),
    ("at work, told to stop", dataclasses.replace(BUSY, stopping=True), WorkerState.STOPPING),
    (
        "silent, told to stop",
        dataclasses.replace(BUSY, stopping=True, silent=LONG),
        WorkerState.DEFUNCT,
    ),
]


@pytest.mark.parametrize(("seen", "state"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_the_state_of_a_worker_follows_from_what_is_seen(seen: Seen, state: WorkerState) -> None:
    assert state_of(seen, 30.0) is state


def test_a_silence_is_longer_than_any_honest_call_and_shorter_where_messages_come_back_sooner() -> (
    None
):
    assert longest_silence(Settings()) == LONGEST_SILENCE
    assert longest_silence(Settings(visibility_timeout=4)) == 2.0


@pytest.mark.parametrize(
    ("shown", "device"),
    [(None, "auto"), ("", "cpu"), ("-1", "cpu"), ("GPU-5c89852c", "GPU-5c89852c"), ("0", "0")],
)
def test_the_device_is_what_the_environment_shows(shown: str | None, device: str) -> None:
    assert device_of({} if shown is None else {"CUDA_VISIBLE_DEVICES": shown}, "auto") == device


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def voice(settings: Settings, board: Board, live: LiveState) -> Voice:
    return Voice(settings, board, live)


def said(redis: fakeredis.FakeRedis) -> WorkerHealth:
    (health,) = workers(redis)
    return health


def test_a_worker_says_what_it_does_and_how_far_it_is(
    voice: Voice, board: Board, redis_fake: fakeredis.FakeRedis
) -> None:
    board.begin_loading(1)
    voice.arrive("cpu@here")
    starting = said(redis_fake)
    assert (starting.name, starting.state) == ("cpu@here", WorkerState.STARTING)
    assert (starting.job, starting.beat_seconds, starting.poll_seconds) == (None, None, None)
    board.loaded()
    board.note_poll()
    voice.look()
    ready = said(redis_fake)
    assert ready.state is WorkerState.READY
    assert ready.since > starting.since
    assert ready.started_at == starting.started_at
    with board.working(), board.holding(InHand("clinic", JOB, 2)):
        voice.look()
        busy = said(redis_fake)
        board.note_stage(JOB, Stage.EXPLAINING)
        voice.look()
        later = said(redis_fake)
    assert busy.state is later.state is WorkerState.BUSY
    assert busy.job is not None
    assert later.job is not None
    assert (busy.job.tenant, busy.job.job_id, busy.job.attempt) == ("clinic", JOB, 2)
    assert (busy.job.stage, later.job.stage) == (None, Stage.EXPLAINING)
    assert later.since == busy.since  # of the job, not of its stage
    voice.look()
    assert (said(redis_fake).state, said(redis_fake).done) == (WorkerState.READY, 1)


def test_what_did_not_change_is_said_again_only_after_a_while(
    voice: Voice, redis_fake: fakeredis.FakeRedis
) -> None:
    voice.arrive("cpu@here")
    redis_fake.flushall()
    voice.look()
    assert workers(redis_fake) == []
    voice._due = time.monotonic()
    voice.look()
    assert said(redis_fake).name == "cpu@here"


def test_a_worker_that_comes_back_says_at_once_how_it_is(
    voice: Voice, redis_fake: fakeredis.FakeRedis
) -> None:
    voice.arrive("cpu@here")
    redis_fake.flushall()
    voice.arrive("cpu@here")
    assert said(redis_fake).state is WorkerState.STARTING


def test_after_a_long_job_or_a_lost_connection_the_queue_has_time_to_answer(
    voice: Voice, board: Board, redis_fake: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.begin_loading(1)
    board.loaded()
    board.note_poll()
    later = time.monotonic() + 1000
    monkeypatch.setattr(time, "monotonic", lambda: later)
    board.beat()
    with board.working():
        voice.arrive("cpu@here")
        assert said(redis_fake).state is WorkerState.BUSY
    voice.look()
    assert said(redis_fake).state is WorkerState.READY
    voice.arrive("cpu@here")
    assert said(redis_fake).state is WorkerState.READY
    later += LONGEST_SILENCE + 1
    board.beat()
    voice.look()
    assert said(redis_fake).state is WorkerState.DEFUNCT
    voice.arrive("cpu@here")
    assert said(redis_fake).state is WorkerState.READY


def test_a_worker_that_is_told_to_stop_says_so_and_then_is_gone(
    voice: Voice, board: Board, redis_fake: fakeredis.FakeRedis
) -> None:
    board.begin_loading(1)
    board.loaded()
    voice.arrive("cpu@here")
    with board.working():
        voice.stopping()
        assert said(redis_fake).state is WorkerState.STOPPING
    voice.leave("cpu@here")
    assert workers(redis_fake) == []


def test_one_that_stops_leaves_the_word_of_another_of_its_name_alone(
    voice: Voice, settings: Settings, live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    successor = Board()
    other = Voice(settings, successor, live)  # of the next supervisor, which did not wait
    voice.arrive("cpu@here")
    other.arrive("cpu@here")
    voice.stopping()
    assert said(redis_fake).post == successor.owner
    voice.leave("cpu@here")
    assert said(redis_fake).post == successor.owner
    other.stopping()
    assert said(redis_fake).state is WorkerState.STOPPING
    other.leave("cpu@here")
    assert workers(redis_fake) == []


def test_a_worker_that_cannot_load_leaves_word_of_it(
    voice: Voice, board: Board, redis_fake: fakeredis.FakeRedis
) -> None:
    board.begin_loading(1)
    board.fail()
    voice.leave("cpu@here")  # its connection to the queue may not have been there yet
    assert (said(redis_fake).name, said(redis_fake).state) == (
        "cpu@here",
        WorkerState.SETUP_FAILED,
    )


def test_with_redis_away_nothing_is_raised_and_it_is_asked_seldom(
    settings: Settings, board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    live = LiveState(settings, connection=fakeredis.FakeRedis(server=server, decode_responses=True))
    voice = Voice(settings, board, live)
    voice.arrive("cpu@here")
    voice.look()
    voice.look()
    assert len(caplog.records) == 1
    voice.leave("cpu@here")
    server.connected = True
    voice._not_before = 0.0
    voice.look()
    assert len(workers(live._redis)) == 1


def test_since_when_a_worker_is_so_outlasts_a_lost_connection(
    voice: Voice, redis_fake: fakeredis.FakeRedis
) -> None:
    voice.arrive("cpu@here")
    since = said(redis_fake).since
    voice.arrive("cpu@here")
    assert said(redis_fake).since == since


def test_a_worker_that_is_stopped_before_it_arrived_says_nothing(
    voice: Voice, redis_fake: fakeredis.FakeRedis
) -> None:
    voice.stopping()
    assert workers(redis_fake) == []


def test_a_message_is_overdue_once_its_hard_limit_has_passed(
    voice: Voice, board: Board, redis_fake: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.begin_loading(1)
    board.loaded()
    requests: list[SimpleNamespace] = []
    monkeypatch.setattr("celery.worker.state.active_requests", requests)
    with board.working():
        for ago, state in ((600.0, WorkerState.BUSY), (700.0, WorkerState.DEFUNCT)):
            waits = SimpleNamespace(time_limits=(660, 600), time_start=None)
            begun = SimpleNamespace(time_limits=(660, 600), time_start=time.time() - ago)
            requests[:] = [waits, begun]
            voice.arrive("cpu@here")
            assert said(redis_fake).state is state


def test_one_that_was_taken_out_says_so_and_when_it_holds_nothing(
    voice: Voice, board: Board, redis_fake: fakeredis.FakeRedis
) -> None:
    board.begin_loading(1)
    board.loaded()
    board.take_out(True)
    voice.arrive("cpu@here")
    first = said(redis_fake)
    assert (first.state, first.drained, first.post) == (WorkerState.DRAINING, False, board.owner)
    assert not first.state.serves
    board.note_emptied(True)
    voice.look()
    assert said(redis_fake).drained
