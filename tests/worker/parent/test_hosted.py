"""A guest of the child's in the parent's hands: its lease, its jobs, and its way back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest

from medgemma_tasks import in_hand
from medgemma_tasks.live import LiveState
from medgemma_tasks.queue import Shard, queue_names
from medgemma_tasks.settings import Settings
from medgemma_worker import unacked
from medgemma_worker.board import Board
from medgemma_worker.parent import lease, running
from medgemma_worker.parent.deaths import WatchedRequest
from medgemma_worker.parent.hosted import give_back, hosted_by
from medgemma_worker.parent.intake import rewritten
from medgemma_worker.parent.shutdown import wait_until_idle
from medgemma_worker.places import InHand
from tests.parts import JOB, OTHER_JOB
from tests.worker.dying import never_left
from tests.worker.parent.test_intake import message

CHILD, SUCCESSOR = 7, 8
QUEUE = queue_names("phantom")[0]
KILLED = "Worker exited prematurely: signal 9 (SIGKILL) Job: 0."
HOST = Shard(schema=1, tenant="local", jobs=("e" * 32,))


@pytest.fixture
def board(live: LiveState) -> Board:
    """Of a child that has a shard in hand, and a guest, of which it runs one job."""
    item = message()
    with live.connected() as redis:
        redis.lpush(QUEUE, item.decode())
        taken = rewritten(item, QUEUE, 10, 12)
        assert unacked.take(redis, QUEUE, item, taken)
        (tag,) = redis.hkeys(in_hand.UNACKED)
    board = Board()
    board.begin_loading(CHILD)
    never_left(board.working())
    never_left(board.hosting(str(tag), (JOB, OTHER_JOB)))
    never_left(board.holding(InHand("local", JOB, 1, "a")))
    live.start_attempt(JOB, "a")
    return board


def consumer(board: Board, live: LiveState, redis: fakeredis.FakeRedis) -> Any:
    """One that holds nothing itself."""
    channel = SimpleNamespace(
        qos=SimpleNamespace(_delivered={}, _dirty=set()),
        connection=object(),
        conn_or_acquire=lambda: redis,
        unacked_index_key=unacked.INDEX,
    )
    conf = SimpleNamespace(broker_transport_options={"visibility_timeout": 60})
    return SimpleNamespace(
        hostname="worker",
        app=SimpleNamespace(conf=conf, live=live, board=board),
        task_consumer=SimpleNamespace(channel=channel),
    )


def dies(board: Board, live: LiveState, pid: int) -> None:
    """Celery tells that the child with this process id died over the shard."""
    request: Any = SimpleNamespace(
        app=SimpleNamespace(board=board, live=live),
        hostname="gpu0@host",
        worker_pid=pid,
        message=SimpleNamespace(payload=[[HOST.model_dump(by_alias=True)], {}, {}]),
    )
    WatchedRequest._note(request, KILLED, "died")


def test_a_guest_keeps_its_lease_and_its_jobs_are_known(
    board: Board, live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    guest = board.guest
    assert guest is not None
    redis_fake.zadd(unacked.INDEX, {guest.tag: 1.0})
    redis_fake.delete(in_hand.UNACKED)  # of which the running set is to make up
    lease.renew(consumer(board, live, redis_fake))
    running.say(consumer(board, live, redis_fake))
    assert redis_fake.zscore(unacked.INDEX, guest.tag) > 1.0
    assert in_hand.look(redis_fake) == {JOB, OTHER_JOB}


def test_a_guest_that_went_back_gets_no_new_lease(
    board: Board, live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    redis_fake.delete(unacked.INDEX)
    lease.renew(consumer(board, live, redis_fake))
    assert not redis_fake.exists(unacked.INDEX)


def test_nobody_keeps_the_guest_of_a_child_that_has_a_successor(
    board: Board, live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    """Should no word of its death come, the guest comes back all the same."""
    board.begin_loading(SUCCESSOR)
    guest = board.guest
    assert guest is not None
    redis_fake.zadd(unacked.INDEX, {guest.tag: 1.0})
    lease.renew(consumer(board, live, redis_fake))
    running.say(consumer(board, live, redis_fake))
    assert redis_fake.zscore(unacked.INDEX, guest.tag) == 1.0
    assert not redis_fake.exists("medgemma:running:phantom:worker")


def test_a_guest_goes_back_when_its_child_dies_and_the_death_is_its_jobs(
    board: Board, live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    board.begin_loading(SUCCESSOR)
    dies(board, live, CHILD)
    assert board.guest is None
    assert redis_fake.llen(QUEUE) == 1
    assert not redis_fake.exists(in_hand.UNACKED, unacked.INDEX)
    assert [death.signal for death in live.deaths(JOB)] == ["SIGKILL"]


def test_the_death_of_a_child_is_not_told_of_its_successors_guest(
    board: Board, live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    dies(board, live, CHILD - 1)
    assert hosted_by(board, CHILD) is not None
    assert not redis_fake.exists(QUEUE)
    assert not live.deaths(JOB)


def test_a_guest_that_was_acknowledged_does_not_come_again(
    board: Board, live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    guest = board.guest
    assert guest is not None
    unacked.acknowledge(redis_fake, guest.tag)
    give_back(board, live, guest)
    assert board.guest is None
    assert not redis_fake.exists(QUEUE)


def test_redis_being_away_keeps_no_death_from_being_dealt_with(
    board: Board, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    away = fakeredis.FakeRedis(server=server, decode_responses=True)
    dies(board, LiveState(settings, connection=away), CHILD)
    assert board.guest is None
    assert "a guest comes back only when its lease lapses" in caplog.text


def test_a_worker_whose_grace_is_over_gives_its_guest_back_uncounted(
    board: Board, live: LiveState, redis_fake: fakeredis.FakeRedis
) -> None:
    voice = SimpleNamespace(stopping=lambda: None, look=lambda: None)
    wait_until_idle(board, SimpleNamespace(app=SimpleNamespace(voice=voice, live=live)), 0.0)
    assert board.guest is None
    assert redis_fake.llen(QUEUE) == 1
    assert live.attempts(JOB) == 0


@pytest.mark.parametrize("found", ["canary", "5", "[1]"])
def test_what_is_no_message_is_not_given_back(
    board: Board, live: LiveState, redis_fake: fakeredis.FakeRedis, found: str
) -> None:
    """Whoever can write to Redis can put anything there."""
    guest = board.guest
    assert guest is not None
    redis_fake.hset(in_hand.UNACKED, guest.tag, found)
    give_back(board, live, guest)
    assert board.guest is None
    assert not redis_fake.exists(QUEUE)
