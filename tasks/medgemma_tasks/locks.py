"""Locks in Redis: for putting a job back, for a leader, for stores without conditional puts.

A lock runs out by itself, so nothing that must hold may rest on one alone.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from medgemma_tasks.connection import Connected

LOCK_SECONDS = 30
"""Somebody who holds a lock longer than this may lose it to another."""

LOCK_PAUSE = 0.02
"""Seconds between two tries to get a lock."""

UNLOCK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"
_EXTEND = """\
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('expire', KEYS[1], ARGV[2]) end
return 0"""


class Locks(Connected):
    """Locks by their names. Every call may raise BrokerUnreachable."""

    def lock(self, name: str, token: str, seconds: int) -> bool:
        """Take a lock for some seconds; False where somebody holds it."""
        with self._reached():
            key = f"medgemma:lock:{name}"
            return bool(self._redis.set(key, token, nx=True, ex=seconds))

    def extend(self, name: str, token: str, seconds: int) -> bool:
        """Hold a lock for some seconds from now; False where it is no longer ours."""
        with self._reached():
            key = f"medgemma:lock:{name}"
            return bool(self._redis.eval(_EXTEND, 1, key, token, seconds))

    def unlock(self, name: str, token: str) -> None:
        """Release a lock, if it is still ours."""
        with self._reached():
            self._redis.eval(UNLOCK, 1, f"medgemma:lock:{name}", token)

    @contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Wait for a lock, which others hold for LOCK_SECONDS at most, and hold it."""
        token = secrets.token_hex(8)
        # It may be ours although we were told no: of a command that was sent again, since the
        # connection broke, the first answer is lost.
        while not (self.lock(name, token, LOCK_SECONDS) or self._is_held_by(name, token)):
            time.sleep(LOCK_PAUSE)
        try:
            yield
        finally:
            self.unlock(name, token)

    def _is_held_by(self, name: str, token: str) -> bool:
        with self._reached():
            return self._redis.get(f"medgemma:lock:{name}") == token
