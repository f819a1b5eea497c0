from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from medgemma_tasks.errors import BrokerUnreachable, WorkerLost
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Death, Stage
from medgemma_worker.board import Board
from medgemma_worker.parent.deaths import WatchedRequest, note_deaths
from medgemma_worker.places import InHand
from medgemma_worker.wrappers.attempt import start_attempt
from tests.parts import JOB, OTHER_JOB
from tests.worker.dying import never_left

KILLED = "Worker exited prematurely: signal 9 (SIGKILL) Job: 0."
LEFT = "Worker exited prematurely: exitcode 3 Job: 0."


@pytest.fixture
def board() -> Board:
    """Of a child that died over its second attempt."""
    board = Board()
    never_left(board.holding(InHand("local", JOB, 2)))
    board.note_stage(JOB, Stage.GENERATING)
    board.note_memory(123)
    return board


def test_a_death_tells_its_signal_its_memory_and_its_stage(board: Board, live: LiveState) -> None:
    note_deaths(board, live, board.in_hand, "gpu0@host", KILLED, "died")
    (death,) = live.deaths(JOB)
    assert (death.attempt, death.signal, death.exit_status) == (2, "SIGKILL", None)
    assert (death.stage, death.memory_bytes) == (Stage.GENERATING, 123)
    assert (death.worker, death.reason) == ("gpu0@host", "died")
    assert not board.in_hand


def test_a_process_that_ended_by_itself_tells_its_status(board: Board, live: LiveState) -> None:
    note_deaths(board, live, board.in_hand, "gpu0@host", LEFT, "died")
    (death,) = live.deaths(JOB)
    assert (death.signal, death.exit_status) == (None, 3)


def test_a_death_between_jobs_is_no_jobs(live: LiveState) -> None:
    note_deaths(Board(), live, [], "gpu0@host", KILLED, "died")
    assert not live.deaths(JOB)


def test_redis_being_away_keeps_no_message_from_going_back(
    board: Board, live: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: LiveState, job_id: str, death: Death) -> None:
        raise BrokerUnreachable("away")

    monkeypatch.setattr(LiveState, "note_death", away)
    note_deaths(board, live, board.in_hand, "gpu0@host", KILLED, "died")
    assert not board.in_hand


def test_a_job_that_is_given_up_names_its_deaths_and_no_others(
    board: Board, live: LiveState
) -> None:
    for _ in range(2):
        start_attempt(live, JOB, 2)
    note_deaths(board, live, board.in_hand, "gpu0@host", KILLED, "died")
    with pytest.raises(WorkerLost) as caught:
        start_attempt(live, JOB, 2)
    assert [death["signal"] for death in caught.value.details["deaths"]] == ["SIGKILL"]
    live.forget(JOB)
    assert not live.deaths(JOB)
    assert not live.deaths(OTHER_JOB)


def test_the_death_of_a_process_is_not_told_of_the_job_that_the_next_one_runs(
    board: Board, live: LiveState
) -> None:
    """Celery may tell of a death seconds later: the board may show another message's job then."""
    app = SimpleNamespace(board=board, live=live)
    shard = {"schema": 1, "tenant": "local", "jobs": [OTHER_JOB]}
    late: Any = SimpleNamespace(
        app=app,
        hostname="gpu0@host",
        worker_pid=1,
        message=SimpleNamespace(payload=[[shard], {}, {}]),
    )
    WatchedRequest._note(late, KILLED, "died")
    assert not live.deaths(JOB)
    shard["jobs"] = [OTHER_JOB, JOB]
    WatchedRequest._note(late, KILLED, "died")
    assert not board.in_hand
    assert len(live.deaths(JOB)) == 1
