"""Redis, as the queue and the live state need it."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medgemma_cli.doctor.finding import Part, Told, failed, not_applicable, ok, warning
from medgemma_tasks.connection import connect, unreachable
from medgemma_tasks.queue import queue_names
from medgemma_tasks.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

NEEDED = (6, 2)
"""The oldest Redis whose users can do what ours must; Valkey began with 7.2."""

PINGS = 5
SLOW = 0.05
"""Seconds for an answer: a job asks some tens of times."""

SKEW = 2.0
"""Seconds between two clocks: a deadline is met to a second or so."""

FULL = 0.9
"""Part of ``maxmemory``, from which on it soon is refused to write."""

KEPT = 60
"""Seconds for which the key of a probe would stay that could not be deleted."""

ASK_OPERATOR = "Run doctor with the operator's MEDGEMMA_BROKER_URL to see it."


class Broker:
    """The checks of a broker."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now

    def part(self) -> Part:
        return "broker", [
            ("connection", self.connection),
            ("version", self.version),
            ("rights", self.rights),
            ("persistence", self.persistence),
            ("memory", self.memory),
            ("clock", self.clock),
        ]

    def connection(self) -> Told:
        """Whether it answers, and how soon."""
        from redis.exceptions import AuthenticationError, RedisError

        where = self._settings.broker_address
        seconds = []
        try:
            self._redis.ping()
            for _ in range(PINGS):
                began = time.monotonic()
                self._redis.ping()
                seconds.append(time.monotonic() - began)
        except AuthenticationError:
            return failed(
                f"Redis at {where} does not let this user in.",
                "Check user and password in MEDGEMMA_BROKER_URL; in a password write / ? # and @ "
                "as %2F %3F %23 and %40.",
            )
        except RedisError as error:
            raise unreachable(self._settings, error) from None
        took = statistics.median(seconds)
        found = f"Redis at {where} answers in {1000 * took:.1f} ms."
        if took > SLOW:
            return warning(found, "Put Redis nearer: a job asks it some tens of times.")
        return ok(found)

    def version(self) -> Told:
        from redis.exceptions import ResponseError

        try:
            said = self._redis.execute_command("HELLO")  # type: ignore[no-untyped-call]
        except ResponseError:
            return failed("Redis is older than 6.0.", f"Run Redis {_spelled(NEEDED)} or later.")
        about = said if isinstance(said, dict) else dict(zip(said[::2], said[1::2], strict=False))
        name, version = str(about.get("server", "redis")), str(about.get("version", "0"))
        found = (
            f"{name} {version}, {about.get('mode', 'standalone')}, {about.get('role', 'master')}."
        )
        if tuple(int(part) for part in version.split(".")[:2]) < NEEDED:
            return failed(found, f"Run Redis {_spelled(NEEDED)} or later, or Valkey.")
        if about.get("mode") == "cluster":
            return failed(found, "Celery's transport needs one server: take one without a cluster.")
        if about.get("role") not in (None, "master"):
            return failed(found, "This one can only be read: name the master in its place.")
        return ok(found)

    def rights(self) -> Told:
        """Which of the three users this is: by what it may, since it may not ask."""
        tenant = self._settings.tenant
        key = f"medgemma:live:{tenant}:doctor-{secrets.token_hex(8)}"
        interactive = queue_names(self._settings.model)[0]
        basic = self._may(lambda redis: redis.set(key, "1", ex=KEPT)) and self._may(
            lambda redis: redis.delete(key)
        )
        if not (basic and self._may(lambda redis: redis.llen(interactive))):
            return failed(
                "This user may not write live state, or see how long a queue is.",
                f"Give it the rights of a client of the tenant {tenant}: docs/security.md.",
            )
        if not self._may(lambda redis: redis.lrange(interactive, 0, 0)):
            return ok(f"Those of a client of the tenant {tenant}: it submits, and sees no worker.")
        if not self._may(lambda redis: redis.info("memory")):
            return ok("Those of a worker.")
        return ok("Those of an operator. A worker and a client need fewer: docs/security.md.")

    def persistence(self) -> Told:
        if self._info is None:
            return not_applicable("This user may not ask whether AOF is on.", ASK_OPERATOR)
        if not int(self._info.get("aof_enabled", 0)):
            return warning(
                "AOF is off: with a killed Redis the queue is lost until the reconciler has put it "
                "back.",
                "Set appendonly yes and appendfsync everysec.",
            )
        if self._info.get("aof_last_write_status", "ok") != "ok":
            return failed(
                "AOF is on, and the last write of it failed.", "Look at the disk of Redis."
            )
        return ok("AOF is on.")

    def memory(self) -> Told:
        if self._info is None:
            return not_applicable("This user may not ask what Redis does when full.", ASK_OPERATOR)
        policy = str(self._info.get("maxmemory_policy", "noeviction"))
        most, used = int(self._info.get("maxmemory", 0)), int(self._info.get("used_memory", 0))
        found = f"{used / 1e6:,.0f} MB used, {f'{most / 1e6:,.0f} MB' if most else 'no limit'}"
        found += f", maxmemory-policy {policy}."
        if policy != "noeviction":
            return failed(
                f"{found} When it is full it deletes jobs.", "Set maxmemory-policy noeviction."
            )
        if most and used > FULL * most:
            return warning(found, "Raise maxmemory; look at what waits with `queue`.")
        return ok(found)

    def clock(self) -> Told:
        from redis.exceptions import NoPermissionError

        before = self._now()
        try:
            seconds, micros = self._redis.time()
        except NoPermissionError:
            return not_applicable("This user may not ask for the time; the store's clock tells.")
        skew = seconds + micros / 1e6 - (before + self._now()) / 2
        found = f"It is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the one here."
        if abs(skew) > SKEW:
            return warning(found, "Let both machines follow a time server (NTP).")
        return ok(found)

    @cached_property
    def _redis(self) -> Redis:
        return connect(self._settings)

    @cached_property
    def _info(self) -> dict[str, Any] | None:
        """What Redis says of itself; None where this user may not ask."""
        from redis.exceptions import NoPermissionError

        try:
            return dict(self._redis.info())
        except NoPermissionError:
            return None

    def _may(self, action: Callable[[Redis], object]) -> bool:
        from redis.exceptions import NoPermissionError

        try:
            action(self._redis)
        except NoPermissionError:
            return False
        return True


def _spelled(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
