"""kombu's book of what is delivered and not acknowledged, for a message that is taken beside it.

kombu's own taking is two steps, and a process that is killed between them loses the message. Here
each is one script: a message is on its queue or in the book at any moment. It stands there as
kombu would have written it, so that it comes back after the visibility timeout like any other.

redis: any connection. Every function may raise RedisError.
"""

from __future__ import annotations

import json
import time
from typing import Any

from medgemma_tasks.in_hand import UNACKED

INDEX = "unacked_index"
"""kombu's sorted set of the same messages' tags, by when their leases began."""

_TAIL = """\
if redis.call('lrange', KEYS[1], -1, -1)[1] ~= ARGV[1] then return 0 end
redis.call('rpop', KEYS[1])
"""

_DROP = _TAIL + "return 1"

_TAKE = (
    _TAIL
    + """\
redis.call('zadd', KEYS[3], ARGV[3], ARGV[2])
redis.call('hset', KEYS[2], ARGV[2], ARGV[4])
return 1"""
)

_GIVE_BACK = """\
redis.call('zrem', KEYS[2], ARGV[1])
if redis.call('hdel', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('rpush', KEYS[3], ARGV[2])
return 1"""


def first(redis: Any, queue: str) -> bytes | None:
    """The message that goes next from a queue, which stays there; None where none waits.

    redis: one that does not decode. Messages are taken from a list's tail. Those with a priority,
    in kombu's other lists, are none of ours.
    """
    found: list[bytes] = redis.lrange(queue, -1, -1)
    return found[0] if found else None


def take(redis: Any, queue: str, item: bytes, message: bytes) -> bool:
    """Take a queue's next message, ``item``, and write it down as ``message``, with its delivery
    tag in it; False, and nothing is done, where ``item`` is no longer the next."""
    content = json.loads(message)
    tag = content["properties"]["delivery_tag"]
    delivered = json.dumps([content, "", queue])
    keys = (queue, UNACKED, INDEX)
    return bool(redis.eval(_TAKE, len(keys), *keys, item, tag, time.time(), delivered))


def drop(redis: Any, queue: str, item: bytes) -> bool:
    """Take a queue's next message, ``item``, off it for good; False where it is gone by now."""
    return bool(redis.eval(_DROP, 1, queue, item))


def acknowledge(redis: Any, tag: str) -> None:
    """A message is done with."""
    pipe = redis.pipeline(transaction=True)
    pipe.zrem(INDEX, tag)
    pipe.hdel(UNACKED, tag)
    pipe.execute()


def give_back(redis: Any, tag: str) -> bool:
    """Put a message on its queue again, where it goes next; False where it is no longer in the
    book, since it was acknowledged or came back by itself, or where it is none of ours."""
    delivered = redis.hget(UNACKED, tag)
    if delivered is None:
        return False
    try:
        message, _, queue = json.loads(delivered)
    except (TypeError, ValueError):  # whoever can write to Redis can put anything there
        return False
    keys = (UNACKED, INDEX, queue)
    return bool(redis.eval(_GIVE_BACK, len(keys), *keys, tag, json.dumps(message)))
