from __future__ import annotations

import re

import pytest

from medgemma_tasks.errors import BrokerUnreachable, WorkerLost
from medgemma_tasks.live import LiveState
from medgemma_worker.wrappers.attempt import start_attempt
from tests.parts import JOB


def test_attempts_are_numbered_and_named_apart(live: LiveState) -> None:
    first, second = (start_attempt(live, JOB, 3) for _ in range(2))
    assert (first.number, second.number) == (1, 2)
    assert re.fullmatch("1-[0-9a-f]{16}", first.name)
    assert first.name != second.name


def test_one_start_too_many_is_a_lost_worker(live: LiveState) -> None:
    start_attempt(live, JOB, 1)
    with pytest.raises(WorkerLost) as caught:
        start_attempt(live, JOB, 1)
    assert caught.value.details == {"attempts": 1, "deaths": []}


def test_a_start_that_redis_counted_but_never_confirmed_is_uncounted(
    live: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer came too late: nothing was started, so nothing died."""
    count = live.start_attempt

    def too_late(job_id: str, token: str) -> int:
        count(job_id, token)
        raise BrokerUnreachable("timeout")

    monkeypatch.setattr(live, "start_attempt", too_late)
    with pytest.raises(BrokerUnreachable):
        start_attempt(live, JOB, 3)
    assert live.attempts(JOB) == 0
