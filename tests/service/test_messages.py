"""Whose limits hold for a message, and that each is read, also after a reconnection.

What is made of bad ones is in ``test_bad_messages``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from medgemma_client.client import Client
from medgemma_tasks.errors import JobTimeLimit
from medgemma_worker.parent.intake import DROPPED
from tests.parts import JOB, OTHER_JOB, picture
from tests.service import bad_messages
from tests.service.bad_messages import LISTS, Generator
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER

WAIT = 30.0


def test_messages_are_read_first_after_a_reconnection_too(idle: Service, tmp_path: Path) -> None:
    made = Generator(1, [JOB], [OTHER_JOB], tmp_path / "trap").make(40)
    wrong = [bad for bad in made if bad.fate == bad_messages.DROPPED]
    with idle.worker:
        # Its child may serve a moment before its parent is connected.
        until(lambda: " ready." in idle.worker.log, WAIT)
        idle.redis.client_kill_filter(_type="normal", skipme=True)
        for bad in wrong:
            idle.redis.lpush(bad.key, bad.content)
        assert idle.ask("Alive after that?").wait(WAIT).answer == ANSWER
        until(lambda: not any(map(idle.redis.llen, LISTS)), WAIT)
        # The last of them was taken, and perhaps not told of yet.
        until(lambda: idle.worker.log.count(DROPPED) >= len(wrong), WAIT)
    assert idle.worker.log.count(DROPPED) == len(wrong)
    assert "Connection to broker lost" in idle.worker.log


@pytest.mark.parametrize("clients", [{}, {"soft_time_limit": 99, "hard_time_limit": 100}])
def test_the_limit_of_the_worker_holds_whatever_the_clients_is(
    idle: Service, tmp_path: Path, clients: dict[str, int]
) -> None:
    client = Client(idle.settings.model_copy(update=clients))
    limits = {"MEDGEMMA_SOFT_TIME_LIMIT": "3", "MEDGEMMA_HARD_TIME_LIMIT": "40"}
    with WorkerProcess(tmp_path, **limits):
        with pytest.raises(JobTimeLimit):
            client.submit(picture(), "hang 60").wait(WAIT)
        assert client.submit(picture(), "Alive after that?").wait(WAIT).answer == ANSWER
