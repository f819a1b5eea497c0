"""A worker that obeys: see also tests/service/test_drain.py, with real ones."""

from __future__ import annotations

import pytest

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.live import LiveState
from medgemma_tasks.orders import order, ordered
from medgemma_tasks.settings import Settings
from medgemma_worker.board import Board
from medgemma_worker.parent.taken_out import Orders
from tests.tasks.test_orders import NAME, worker

POST = "post"


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def orders(board: Board, live: LiveState) -> Orders:
    return Orders(board, live, NAME, POST)


def tell(live: LiveState, *, out: bool, post: str = POST) -> None:
    with live.connected() as redis:
        order(redis, worker(model="phantom", post=post), out=out)


def nothing() -> bool:
    return False


def test_it_takes_messages_unless_it_is_told_otherwise(
    orders: Orders, board: Board, live: LiveState
) -> None:
    orders.look(nothing)
    tell(live, out=True, post="of a predecessor")
    orders.look(nothing)
    assert not board.taken_out
    assert not board.emptied
    tell(live, out=True)
    orders.look(nothing)
    assert board.taken_out
    assert board.emptied
    tell(live, out=False)
    orders.look(nothing)
    assert not board.taken_out
    assert not board.emptied


def test_it_is_empty_once_it_holds_nothing(orders: Orders, board: Board, live: LiveState) -> None:
    tell(live, out=True)
    orders.look(lambda: True)
    assert board.taken_out
    assert not board.emptied
    orders.look(nothing)
    assert board.emptied


def test_it_stays_out_though_redis_lost_the_order_and_tells_whoever_comes_after_it(
    orders: Orders, board: Board, live: LiveState
) -> None:
    tell(live, out=True)
    orders.look(nothing)
    with live.connected() as redis:
        redis.flushall()
        orders.look(nothing)
        assert board.taken_out
        assert ordered(redis, "phantom", NAME, POST) is True


def test_with_redis_away_it_does_as_before(
    settings: Settings, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = LiveState(settings.model_copy(update={"connect_timeout": 0.1}))
    board.take_out(True)
    orders = Orders(board, away, NAME, POST)

    def refuses() -> None:
        raise BrokerUnreachable("It is away.")

    monkeypatch.setattr(away, "connected", refuses)
    orders.look(nothing)
    assert board.taken_out
    assert board.emptied
