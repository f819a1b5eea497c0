from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from medgemma_tasks.live import LiveState
from medgemma_worker.board import Board
from medgemma_worker.exits import LOAD_FAILED
from medgemma_worker.parent import shutdown as module
from medgemma_worker.parent.shutdown import install, wait_until_idle
from medgemma_worker.places import InHand
from tests.parts import JOB, OTHER_JOB
from tests.worker.dying import never_left


@pytest.mark.parametrize(
    ("exitcode", "failed", "raised"),
    [(None, False, 0), (0, False, 0), (1, False, 1), (None, True, LOAD_FAILED)],
)
def test_a_worker_that_crashed_or_could_not_load_says_so_with_its_status(
    exitcode: int | None, failed: bool, raised: int
) -> None:
    """Celery drops both, and a supervisor would read an orderly end."""

    class Worker:
        hostname = "cpu@here"

        def start(self) -> None:
            self.exitcode = exitcode

    left: list[str] = []
    voice = SimpleNamespace(leave=left.append)
    app: Any = SimpleNamespace(Worker=Worker, voice=voice)
    board = Board()
    install(app, board)
    if failed:
        board.fail()
    worker = app.Worker()
    if raised:
        with pytest.raises(SystemExit) as caught:
            worker.start()
        assert caught.value.code == raised
    else:
        worker.start()
    assert left == ["cpu@here"]


def test_a_job_that_begins_in_the_last_moment_of_a_grace_is_not_counted(
    live: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child goes on with its shard until it is killed."""
    board = Board()
    never_left(board.working())
    never_left(board.holding(InHand("local", JOB, 1, "a")))
    live.start_attempt(JOB, "a")

    def goes_on(_seconds: float) -> None:
        live.start_attempt(OTHER_JOB, "b")
        never_left(board.holding(InHand("local", OTHER_JOB, 1, "b")))

    monkeypatch.setattr(time, "sleep", goes_on)
    app = SimpleNamespace(voice=SimpleNamespace(stopping=lambda: None), live=live)
    wait_until_idle(board, SimpleNamespace(app=app), 0.0)
    assert (live.attempts(JOB), live.attempts(OTHER_JOB)) == (0, 0)


@pytest.mark.parametrize(
    "consumes", [None, SimpleNamespace(channel=SimpleNamespace(connection=None))]
)
def test_a_worker_told_to_stop_while_it_has_no_connection_keeps_to_its_grace(
    live: LiveState, monkeypatch: pytest.MonkeyPatch, consumes: object
) -> None:
    """An error here would end it at once, its job counted. kombu takes a lost channel apart."""
    board = Board()
    never_left(board.working())
    never_left(board.holding(InHand("local", JOB, 1, "a")))
    live.start_attempt(JOB, "a")
    monkeypatch.setattr(module, "LONGEST_INTERVAL", 0.0)
    voice = SimpleNamespace(stopping=lambda: None, look=lambda: None)
    app = SimpleNamespace(voice=voice, live=live)
    wait_until_idle(board, SimpleNamespace(app=app, task_consumer=consumes), 0.2)
    assert live.attempts(JOB) == 0
