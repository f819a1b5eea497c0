from __future__ import annotations

import threading

import pytest

from medgemma_tasks.first_writer import FirstWriter
from medgemma_tasks.live import LiveState
from medgemma_tasks.store import Store


@pytest.fixture(params=["conditional puts", "a lock in Redis"])
def writer(request: pytest.FixtureRequest, store: Store, live: LiveState) -> FirstWriter:
    store.__dict__["conditional"] = request.param == "conditional puts"
    return FirstWriter(store, live)


def test_the_first_writer_wins_and_the_second_learns_that_it_lost(writer: FirstWriter) -> None:
    assert writer.put("mark", b"first")
    assert not writer.put("mark", b"second")
    assert writer.store.get("mark") == b"first"


def test_a_writer_recognises_its_own_work(writer: FirstWriter) -> None:
    """Its first try went through, the answer was lost, and the library tried again."""
    writer.store.put("mark", b"mine")
    assert writer.put("mark", b"mine")


def test_a_deleted_mark_can_be_written_anew(writer: FirstWriter) -> None:
    assert writer.put("mark", b"first")
    writer.store.delete("mark")
    assert writer.put("mark", b"second")


def test_of_many_writers_one_wins(writer: FirstWriter) -> None:
    won: list[bytes] = []

    def write(content: bytes) -> None:
        if writer.put("mark", content):
            won.append(content)

    threads = [threading.Thread(target=write, args=(b"%d" % n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert writer.store.get("mark") == won[0]


def test_a_lock_that_another_holds_is_waited_for(store: Store, live: LiveState) -> None:
    store.__dict__["conditional"] = False
    assert live.lock("mark", "another", 30)
    timer = threading.Timer(0.1, live.unlock, ("mark", "another"))
    timer.start()
    assert FirstWriter(store, live).put("mark", b"mine")
    timer.join()


def test_a_lock_is_released_only_by_its_holder(live: LiveState) -> None:
    assert live.lock("mark", "one", 30)
    live.unlock("mark", "another")
    assert not live.lock("mark", "another", 30)
