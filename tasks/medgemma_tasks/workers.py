"""What workers say of themselves in Redis, again and again: who is there, and how.

A process that is there may still serve nobody, so what counts is what the worker's child and the
queue said last; see ``medgemma_worker.parent.health``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from medgemma_tasks.in_hand import PAGE, settled_after
from medgemma_tasks.layout import model_slug
from medgemma_tasks.models import WorkerHealth, WorkerState

if TYPE_CHECKING:
    from redis import Redis

FAILED_LIFETIME = 600.0
"""Seconds for which "setup failed" is remembered after the worker, which has ended, said so."""

_WORKER = "medgemma:worker:"


def say(redis: Redis, health: WorkerHealth, visibility_timeout: float) -> None:
    """Say how a worker is; it is forgotten unless it is said again. May raise RedisError."""
    failed = health.state is WorkerState.SETUP_FAILED
    seconds = FAILED_LIFETIME if failed else settled_after(visibility_timeout)
    redis.set(_key(health.model, health.name), health.model_dump_json(), px=round(1000 * seconds))


def forget(redis: Redis, model: str, name: str) -> None:
    """Of one that ended in order nothing is left. May raise RedisError."""
    redis.delete(_key(model, name))


def worker(redis: Redis, model: str, name: str) -> WorkerHealth | None:
    """What one worker said last, or None. May raise RedisError."""
    return _read(redis.get(_key(model, name)))


def workers(redis: Redis) -> list[WorkerHealth]:
    """What all workers said last, by model and name. May raise RedisError."""
    keys = redis.scan_iter(_WORKER + "*", PAGE, _type="STRING")
    found = [health for key in keys if (health := _read(redis.get(key))) is not None]
    return sorted(found, key=lambda health: (health.model, health.name))


def _key(model: str, name: str) -> str:
    return f"{_WORKER}{model_slug(model)}:{name}"


def _read(text: object) -> WorkerHealth | None:
    try:
        return None if text is None else WorkerHealth.model_validate_json(str(text))
    except ValidationError:
        return None  # of another version
