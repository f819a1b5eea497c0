from __future__ import annotations

import os
import signal

import pytest

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.live import LiveState
from medgemma_worker.board import Board
from medgemma_worker.parent import watch as module
from medgemma_worker.parent.watch import Watcher, peak_memory
from medgemma_worker.places import InHand
from medgemma_worker.wrappers.cancellation import STOP
from tests.parts import OTHER_JOB, request_for
from tests.worker.dying import never_left

REQUEST = request_for()
JOB = REQUEST.job_id


class Sent:
    """Signals that were not sent, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.pids: set[int] = set()
        self.now = 0.0


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    sent = Sent()

    def kill(pid: int, number: int) -> None:
        sent.signals.append(number)
        sent.pids.add(pid)

    monkeypatch.setattr(module.os, "kill", kill)
    monkeypatch.setattr(module.time, "monotonic", lambda: sent.now)
    return sent


@pytest.fixture
def board() -> Board:
    board = Board()
    board.begin_loading(os.getpid())
    never_left(board.working())
    never_left(board.holding(InHand("local", JOB, 1)))
    return board


def test_a_job_that_nobody_cancelled_is_left_alone(
    board: Board, live: LiveState, sent: Sent
) -> None:
    watcher = Watcher(board, live)
    watcher.look()
    assert not sent.signals
    assert board.memory > 0


def test_a_cancelled_job_is_told_by_a_signal_and_then_killed(
    board: Board, live: LiveState, sent: Sent
) -> None:
    watcher = Watcher(board, live)
    live.cancel(JOB)
    for moment in (0.0, 1.0, 2.0):
        sent.now = moment
        watcher.look()
    assert sent.signals == [STOP, signal.SIGKILL]
    assert board.stopping == JOB


def test_the_next_job_is_not_killed_for_the_last_one(
    board: Board, live: LiveState, sent: Sent
) -> None:
    watcher = Watcher(board, live)
    live.cancel(JOB)
    watcher.look()
    board.clear(board.in_hand)
    never_left(board.holding(InHand("local", OTHER_JOB, 1)))
    sent.now = 10.0
    watcher.look()
    assert sent.signals == [STOP]


def test_a_child_that_takes_a_dead_ones_place_meanwhile_is_sent_nothing_for_it(
    board: Board, live: LiveState, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it loads it would die of it."""
    successor = 2**22 + 1

    def cancelled(self: LiveState, job_ids: list[str]) -> list[str]:
        board.begin_loading(successor)
        return job_ids

    monkeypatch.setattr(LiveState, "which_cancelled", cancelled)
    Watcher(board, live).look()
    assert board.pid == successor
    assert sent.pids == {os.getpid()}


def test_redis_being_away_is_not_asked_at_every_look(
    board: Board, live: LiveState, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def away(self: LiveState, job_ids: list[str]) -> list[str]:
        asked.extend(job_ids)
        raise BrokerUnreachable("away")

    monkeypatch.setattr(LiveState, "which_cancelled", away)
    watcher = Watcher(board, live)
    for moment in (0.0, 1.0, 2.0, 6.0):
        sent.now = moment
        watcher.look()
    assert asked == [JOB, JOB]


def test_the_memory_of_a_child_that_died_stays_known_until_its_death_is_written_down(
    board: Board, live: LiveState
) -> None:
    watcher = Watcher(board, live)
    watcher.look()
    seen = board.memory
    board._page.pid = 2**22 + 1
    watcher.look()
    assert board.memory == seen > 0
    board.clear(board.in_hand)
    assert board.memory == 0


def test_the_memory_of_a_process_that_is_gone_is_not_known() -> None:
    assert peak_memory(os.getpid()) > 1_000_000
    assert peak_memory(2**22 + 1) == 0


def test_a_child_that_heard_it_is_not_killed_and_told_of_the_next(
    board: Board, live: LiveState, sent: Sent
) -> None:
    """One that is being stored is not interrupted; one of several stops at their next token."""
    never_left(board.holding(InHand("local", OTHER_JOB, 1)))
    watcher = Watcher(board, live)
    for job in (JOB, OTHER_JOB):
        live.cancel(job)
    watcher.look()
    assert board.stopping == JOB
    board.hear(JOB)
    for moment in (1.0, 2.0):
        sent.now = moment
        watcher.look()
        board.hear(OTHER_JOB)
    sent.now = 10.0
    watcher.look()
    assert sent.signals == [STOP, STOP]
    assert board.stopping == OTHER_JOB


def test_a_step_that_hangs_is_killed_at_the_limit_of_one_job(
    board: Board, live: LiveState, sent: Sent
) -> None:
    """Celery's limit is that of the whole message."""
    sent.now = 100.0
    never_left(board.stepping())
    watcher = Watcher(board, live)
    sent.now += live.settings.hard_time_limit
    watcher.look()
    assert not sent.signals
    sent.now += module.MARGIN + 1
    watcher.look()
    assert sent.signals == [signal.SIGKILL]
