"""Which queue of its two a worker serves first."""

from __future__ import annotations

from datetime import UTC, datetime

import fakeredis
import pytest

from medgemma_tasks import workers
from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import WorkerHealth, WorkerState
from medgemma_worker.board import Board
from medgemma_worker.parent.lanes import Lane, order_by

ONE, OTHER = "gpu0@here", "gpu1@here"


def say(live: LiveState, name: str, state: WorkerState, model: str = "phantom") -> None:
    now = datetime.now(UTC)
    health = WorkerHealth(
        name=name,
        host="here",
        model=model,
        device="cpu",
        pid=1,
        state=state,
        since=now,
        started_at=now,
    )
    with live.connected() as redis:
        workers.say(redis, health, 60)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def lane(board: Board, live: LiveState) -> Lane:
    """Of one worker, which serves."""
    say(live, ONE, WorkerState.READY)
    return Lane(board, live, ONE)


def test_a_worker_asks_the_interactive_queue_first_unless_it_is_the_one_for_batch_jobs(
    board: Board,
) -> None:
    order = order_by(board)()
    order.update(["interactive", "batch"])
    assert order.consume(2) == ["interactive", "batch"]
    board.put_bulk_first(True)
    assert order.consume(2) == ["batch", "interactive"]
    order.rotate("batch")
    board.put_bulk_first(False)
    assert order.consume(2) == ["interactive", "batch"]


def test_a_worker_that_was_taken_out_asks_no_queue(board: Board) -> None:
    order = order_by(board)()
    order.update(["interactive", "batch"])
    board.take_out(True)
    assert order.consume(2) == []
    board.take_out(False)
    assert order.consume(2) == ["interactive", "batch"]


def test_a_worker_that_is_alone_serves_interactive_jobs_first(
    lane: Lane, board: Board, live: LiveState
) -> None:
    say(live, OTHER, WorkerState.READY, model="another")
    lane.look()
    assert not board.bulk_first


def test_of_two_workers_one_serves_batch_jobs_first(
    lane: Lane, board: Board, live: LiveState
) -> None:
    say(live, OTHER, WorkerState.BUSY)
    theirs = Board()
    for _ in range(3):
        lane.look()
        Lane(theirs, live, OTHER).look()
    assert board.bulk_first
    assert not theirs.bulk_first


@pytest.mark.parametrize(
    "state", [WorkerState.STARTING, WorkerState.STOPPING, WorkerState.DEFUNCT, None]
)
def test_one_whose_fellow_serves_no_longer_goes_back_to_interactive_jobs(
    lane: Lane, board: Board, live: LiveState, state: WorkerState | None
) -> None:
    say(live, OTHER, WorkerState.BUSY)
    lane.look()
    assert board.bulk_first
    if state is None:
        with live.connected() as redis:
            workers.forget(redis, "phantom", OTHER)
    else:
        say(live, OTHER, state)
    lane.look()
    assert not board.bulk_first


def test_one_that_serves_nobody_leaves_batch_jobs_to_another(
    lane: Lane, board: Board, live: LiveState
) -> None:
    say(live, OTHER, WorkerState.READY)
    say(live, "gpu2@here", WorkerState.READY)
    lane.look()
    assert board.bulk_first
    say(live, ONE, WorkerState.DEFUNCT)
    lane.look()
    theirs = Board()
    Lane(theirs, live, OTHER).look()
    assert not board.bulk_first
    assert theirs.bulk_first


def test_another_follows_a_worker_that_died(
    lane: Lane, board: Board, live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    say(live, OTHER, WorkerState.READY)
    lane.look()
    (lock,) = redis_fake.keys("medgemma:lock:*")
    assert 0 < redis_fake.ttl(lock) <= 15
    redis_fake.delete(lock)  # it lapses
    theirs = Board()
    Lane(theirs, live, OTHER).look()
    assert theirs.bulk_first
    lane.look()
    assert not board.bulk_first


def test_with_redis_away_nothing_is_raised_and_interactive_jobs_go_first(
    lane: Lane, board: Board, live: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(live, OTHER, WorkerState.READY)
    lane.look()
    assert board.bulk_first

    def away(*_: object) -> bool:
        raise BrokerUnreachable("away")

    with monkeypatch.context() as patch:
        patch.setattr(LiveState, "lock", away)
        lane.look()
    assert not board.bulk_first
    lane.look()
    assert board.bulk_first
