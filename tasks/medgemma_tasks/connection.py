"""The connection to Redis, and what becomes of its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from medgemma_tasks.errors import BrokerUnreachable
from medgemma_tasks.settings import Settings

if TYPE_CHECKING:
    from redis import Redis


class Connected:
    """A connection, made at its first command. Every call may raise BrokerUnreachable."""

    def __init__(self, settings: Settings, connection: Redis | None = None) -> None:
        self.settings = settings
        self._redis = connect(settings) if connection is None else connection

    def ping(self) -> None:
        """BrokerUnreachable unless Redis answers."""
        with self._reached():
            self._redis.ping()

    def close(self) -> None:
        """Give back the connections that nobody is using; a later command opens new ones."""
        self._redis.connection_pool.disconnect(inuse_connections=False)

    @contextmanager
    def connected(self) -> Iterator[Redis]:
        """The connection, for what is about no one job. A RedisError becomes BrokerUnreachable."""
        with self._reached():
            yield self._redis

    @contextmanager
    def _reached(self) -> Iterator[None]:
        from redis.exceptions import RedisError

        try:
            yield
        except RedisError as error:
            # The library's own message may hold more than the address; its class says enough.
            raise unreachable(self.settings, error) from None


def connect(settings: Settings, *, decode: bool = True, timeout: float | None = None) -> Redis:
    """A connection that gives up soon. Nothing is sent until its first command.

    decode: whether what Redis holds is given as text. timeout: seconds, for connecting and for an
    answer; None for MEDGEMMA_CONNECT_TIMEOUT.
    """
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.retry import Retry

    seconds = settings.connect_timeout if timeout is None else timeout
    return Redis.from_url(
        settings.broker_url.get_secret_value(),
        decode_responses=decode,
        **settings.redis_tls,
        encoding_errors="replace",  # whoever writes to Redis may put anything on a queue
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        # One more try mends a connection that the server dropped; timeouts are not tried again,
        # since redis-py nests this policy (connecting inside commanding) and they would add up.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )


def unreachable(settings: Settings, error: BaseException) -> BrokerUnreachable:
    """The error for a broker that did not do as it was asked."""
    address = settings.broker_address
    trust = ", and that MEDGEMMA_CA_FILE vouches for it" if settings.redis_tls else ""
    return BrokerUnreachable(
        f"Redis at {address} cannot be used ({type(error).__name__}). "
        f"Check MEDGEMMA_BROKER_URL and that the server runs{trust}."
    )
