"""Hearing which jobs end goes on, whatever went wrong once: else waits are slow, and what is kept
of statuses is trusted though nobody would say that it changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import Queue
from threading import Thread
from typing import Any

import fakeredis
import pytest

from medgemma_client import listening
from medgemma_client.aio.bells import LoopBells
from medgemma_client.announcements import Announcements
from medgemma_tasks.live import LiveState
from tests.parts import JOB

WAIT = 20.0
"""Seconds for what must come."""

ERROR = RuntimeError("redis://user:canary@host")

Break = Callable[[Exception], None]


@pytest.fixture
def breaks(redis_fake: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch) -> Break:
    """Has a connection that listens raise this once, at its next look."""
    monkeypatch.setattr(listening, "PAUSE", 2 * listening.LISTEN)
    left: list[Exception] = []
    made = redis_fake.pubsub

    def pubsub(**options: Any) -> Any:
        found = made(**options)
        get_message = found.get_message

        def gets(**options: Any) -> Any:
            if left:
                raise left.pop()
            return get_message(**options)

        found.get_message = gets
        return found

    monkeypatch.setattr(redis_fake, "pubsub", pubsub)
    return left.append


def test_whoever_waits_in_a_loop_is_woken_again(
    live: LiveState, breaks: Break, caplog: pytest.LogCaptureFixture
) -> None:
    async def wait() -> None:
        bells = LoopBells(live)
        with bells.hearing(JOB) as bell:
            assert await bell.wait(WAIT)  # it is heard from here on
            breaks(ERROR)
            assert await bell.wait(WAIT)  # and again
            live.announce(JOB)
            assert await bell.wait(WAIT)

    asyncio.run(wait())
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


def test_it_is_told_that_nothing_is_heard_and_when_it_is_again(
    live: LiveState, breaks: Break, caplog: pytest.LogCaptureFixture
) -> None:
    heard, ended = Queue[bool](), Queue[tuple[str, str]]()
    announcements = Announcements(live, lambda *job: ended.put(job), heard.put)
    announcements.start()
    try:
        assert heard.get(timeout=WAIT)
        breaks(ERROR)
        assert not heard.get(timeout=WAIT)
        assert heard.get(timeout=WAIT)
        live.announce(JOB)
        assert ended.get(timeout=WAIT) == ("local", JOB)
    finally:
        announcements.stop()
    assert not heard.get(timeout=WAIT)
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


def test_one_who_is_wanted_again_while_it_ends_is_another(live: LiveState) -> None:
    """Else two would listen for one client."""
    answers = iter([True, False, True])
    told: list[bool] = []
    thread = Thread(
        target=listening.listen, args=(live, lambda: next(answers), told.append, lambda jobs: None)
    )
    thread.start()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert told == [True, False]
    assert next(answers)
