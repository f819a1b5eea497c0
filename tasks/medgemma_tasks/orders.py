"""Orders to workers, in Redis: to take no further message, and to take them again.

A worker looks for its order once a second. The last one counts, so one that Redis lost changes
nothing; and each is for one post (see ``medgemma_worker.post``), so that it ends with its
supervisor: a new worker of the same name does not obey it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medgemma_tasks.layout import model_slug
from medgemma_tasks.models import WorkerHealth

if TYPE_CHECKING:
    from redis import Redis

LIFETIME = 86_400
"""Seconds for which an order stays, unless its worker keeps it."""

_OUT, _IN = "out", "in"


def order(redis: Redis, worker: WorkerHealth, *, out: bool) -> None:
    """Tell a worker to take no further message, or to take them again. May raise RedisError."""
    word = _OUT if out else _IN
    redis.set(_key(worker.model, worker.name), f"{worker.post} {word}", ex=LIFETIME)


def ordered(redis: Redis, model: str, name: str, post: str) -> bool | None:
    """Whether a worker was last told to take no further message; None where nobody told it
    anything, or Redis lost it. May raise RedisError."""
    said = str(redis.get(_key(model, name)) or "")
    return {f"{post} {_OUT}": True, f"{post} {_IN}": False}.get(said)


def keep(redis: Redis, model: str, name: str, post: str) -> None:
    """Of a worker that was taken out: whoever has its post next is to know. May raise RedisError.

    Never over another order, which may have come meanwhile.
    """
    key = _key(model, name)
    if not redis.set(key, f"{post} {_OUT}", nx=True, ex=LIFETIME):
        redis.expire(key, LIFETIME)


def _key(model: str, name: str) -> str:
    # No colon after the model: a tenant may have the name of a model, and whoever may write what is
    # of a tenant must not give orders.
    return f"medgemma:order:{model_slug(model)}/{name}"
