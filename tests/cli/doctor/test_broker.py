"""What doctor says of a Redis: real ones, well and badly set up, and its three users."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from medgemma_cli.doctor.broker import Broker
from medgemma_cli.doctor.finding import Finding, Level
from medgemma_cli.embedded.redis import EmbeddedRedis
from medgemma_tasks.settings import Settings
from tests.cli.doctor.told import findings, levels
from tests.deploy.test_redis_users import GuardedRedis


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """One that is set up anew by these tests."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedRedis]:
    with GuardedRedis() as server:
        yield server


def of(url: str, **options: Any) -> Broker:
    return Broker(Settings(broker_url=SecretStr(url), connect_timeout=5), **options)


def looked(url: str, **options: Any) -> dict[str, Finding]:
    return findings(of(url, **options).part())


@pytest.fixture
def operator(server: EmbeddedRedis) -> Iterator[Any]:
    """Who may change the server; all is as it was afterwards."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        names = ("appendonly", "maxmemory-policy", "maxmemory")
        before = {name: client.config_get(name)[name] for name in names}
        yield client
        client.execute_command("REPLICAOF", "NO", "ONE")
        for name, value in before.items():
            client.config_set(name, value)


def test_of_a_redis_as_it_should_be_all_is_well_and_nothing_is_left_there(
    server: EmbeddedRedis, operator: Any
) -> None:
    assert set(levels(of(server.url).part()).values()) == {Level.OK}
    assert operator.dbsize() == 0


@pytest.mark.parametrize(
    ("name", "value", "check", "level", "words"),
    [
        ("appendonly", "no", "persistence", Level.WARNING, "AOF is off"),
        ("maxmemory-policy", "allkeys-lru", "memory", Level.FAILED, "it deletes jobs"),
        ("maxmemory", "1000000", "memory", Level.WARNING, "1 MB, maxmemory-policy noeviction"),
    ],
)
def test_what_would_lose_jobs_is_found(
    server: EmbeddedRedis,
    operator: Any,
    name: str,
    value: str,
    check: str,
    level: Level,
    words: str,
) -> None:
    broker = of(server.url)
    if name == "maxmemory":
        assert broker.connection().level is Level.OK
    operator.config_set(name, value)
    found = {"persistence": broker.persistence, "memory": broker.memory}[check]()
    assert (found.level, words in found.found, found.advice != "") == (level, True, True)


def test_one_that_can_only_be_read_is_found(server: EmbeddedRedis, operator: Any) -> None:
    operator.execute_command("REPLICAOF", "127.0.0.1", "1")
    found = of(server.url).version()
    assert (found.level, "name the master" in found.advice) == (Level.FAILED, True)


@pytest.mark.parametrize(
    ("user", "words", "asked"),
    [
        ("client", "of a client of the tenant local", False),
        ("worker", "Those of a worker.", False),
        ("default", "Those of an operator.", True),
    ],
)
def test_each_user_is_told_what_it_may(
    guarded: GuardedRedis, user: str, words: str, asked: bool
) -> None:
    found = looked(guarded.as_user(user))
    assert (found["rights"].level, words in found["rights"].found) == (Level.OK, True)
    for check in ("persistence", "memory"):
        assert (found[check].level is Level.NOT_APPLICABLE) != asked
    assert Level.FAILED not in {one.level for one in found.values()}


def test_a_client_of_another_tenant_may_too_little(guarded: GuardedRedis) -> None:
    settings = Settings(broker_url=SecretStr(guarded.as_user("client")), tenant="other")
    found = Broker(settings).rights()
    assert (found.level, "tenant other" in found.advice) == (Level.FAILED, True)


def test_a_wrong_password_is_told_apart_from_a_server_that_is_away(guarded: GuardedRedis) -> None:
    url = f"redis://worker:canary@127.0.0.1:{guarded.port}/0"
    refused, away = looked(url), looked("redis://:canary@127.0.0.1:1/0")
    assert "does not let this user in" in refused["connection"].found
    assert "cannot be used (ConnectionError)" in away["connection"].found
    for found in (refused, away):
        assert found["connection"].level is Level.FAILED
        assert found["clock"].found == "See broker, connection."
        assert "canary" not in str(found)


def test_clocks_that_differ_are_found(server: EmbeddedRedis) -> None:
    found = of(server.url, now=lambda: time.time() - 60).clock()
    assert found.level is Level.WARNING
    assert re.fullmatch(r"It is (59|60)\.\d s ahead of the one here\.", found.found)
