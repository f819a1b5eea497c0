"""What callers may ask, counted in a real Redis: its clock and its scripts are what counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from medgemma_tasks.allowances import Allowances, Asked
from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.settings import Settings, load_settings
from tests.faults.proxy import Proxy
from tests.parts import JOB, OTHER_JOB

if TYPE_CHECKING:
    from medgemma_cli.embedded import EmbeddedRedis

EVENING = datetime(2026, 11, 26, 23, 59, tzinfo=UTC)


@pytest.fixture
def allowances(stack_settings: Settings) -> Allowances:
    return Allowances(stack_settings)


def test_a_minutes_worth_may_come_at_once_and_then_one_has_to_wait(allowances: Allowances) -> None:
    told = [allowances.take("local", "one", 5) for _ in range(6)]
    assert told[:5] == [0] * 5
    assert 1 <= told[5] <= 12
    assert allowances.take("local", "two", 5) == 0
    assert allowances.take("other", "one", 5) == 0


def test_a_job_that_was_given_back_does_not_count(allowances: Allowances) -> None:
    assert [allowances.take_job("local", "one", 2, EVENING) for _ in range(2)] == [0, 0]
    assert allowances.take_job("local", "one", 2, EVENING) == 61
    allowances.give_back_job("local", "one", EVENING)
    assert allowances.take_job("local", "one", 2, EVENING) == 0
    assert allowances.take_job("local", "one", 2, EVENING) > 0


def test_with_redis_away_it_is_given_back_once_redis_answers(
    stack_settings: Settings, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = stack_settings.broker_url.get_secret_value()
    with Proxy(redis_server.port) as proxy:
        way = url.replace(f":{redis_server.port}/", f":{proxy.port}/")
        monkeypatch.setenv("MEDGEMMA_BROKER_URL", way)
        allowances = Allowances(load_settings())
        assert [allowances.take_job("local", "one", 2, EVENING) for _ in range(2)] == [0, 0]
        proxy.refuse()
        allowances.give_back_job("local", "one", EVENING)
        with pytest.raises(BrokerUnreachable):
            allowances.take_job("local", "one", 2, EVENING)
        proxy.restore()
        assert allowances.take("local", "two", 5) == 0
        told = [Allowances(stack_settings).take_job("local", "one", 2, EVENING) for _ in range(2)]
        assert told == [0, 61]


def test_one_that_is_given_back_after_midnight_is_none_of_the_new_day(
    allowances: Allowances,
) -> None:
    tomorrow = EVENING + timedelta(hours=1)
    allowances.take_job("local", "one", 1, EVENING)
    allowances.give_back_job("local", "one", EVENING)
    assert allowances.take_job("local", "one", 1, tomorrow) == 0
    assert allowances.take_job("local", "one", 1, tomorrow) > 0


def test_what_redis_forgot_meanwhile_is_not_given_back(allowances: Allowances) -> None:
    allowances.give_back_job("local", "one", EVENING)
    assert allowances.take_job("local", "one", 1, EVENING) == 0
    assert allowances.take_job("local", "one", 1, EVENING) > 0


def test_a_key_stands_for_what_it_was_used_for_first(allowances: Allowances) -> None:
    first, second = Asked("question", JOB), Asked("other", OTHER_JOB)
    assert allowances.remember("local", "key", first) == first
    assert allowances.remember("local", "key", second) == first
    assert allowances.remember("other", "key", second) == second
    allowances.correct("local", "key", second)
    assert allowances.remember("local", "key", first) == second


def test_neither_the_key_nor_the_question_is_in_redis(allowances: Allowances) -> None:
    allowances.remember("local", "canary-key", Asked("question", JOB))
    with allowances.connected() as redis:
        assert not [name for name in redis.scan_iter("*") if "canary" in name]
        for name in redis.scan_iter("*"):
            assert redis.ttl(name) > 0
