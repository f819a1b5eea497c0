"""What a queued job costs in Redis: its message, and all that Redis remembers of it.

Jobs are published and remembered as the client does, in messages of several sizes, on a Redis
server of this benchmark's own; then the workers' places are told, as they are every 2 s. Bytes are
what the server's memory grew by, without its connections and what is on its way to the disk.

Also how long the reconciler takes to look at them all, which it does twice a sweep.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time

from redis import Redis

from medgemma_cli.embedded import EmbeddedRedis
from medgemma_tasks.backlog import tell_places
from medgemma_tasks.live import LiveState
from medgemma_tasks.queue import make_app, publish, queue_names
from medgemma_tasks.settings import load_settings

AIMS = {32: 400, 1: 1500}
"""Most bytes a job, by jobs in a message."""

MILLION = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--shards", type=int, nargs="+", default=[32, 8, 1])
    asked = parser.parse_args()
    good = True
    with EmbeddedRedis() as server:
        os.environ["MEDGEMMA_BROKER_URL"] = server.url
        redis = Redis.from_url(server.url, decode_responses=True)
        for size in asked.shards:
            redis.flushall(asynchronous=False)
            good = measured(redis, asked.count, size) and good
    return 0 if good else 1


def measured(redis: Redis, count: int, size: int) -> bool:
    """Publish so many jobs in messages of a size; whether they take no more than they may."""
    settings = load_settings()
    app, live, queue = make_app(settings), LiveState(settings), queue_names(settings.model)[1]
    jobs = [secrets.token_hex(16) for _ in range(count)]
    publish(app, settings, settings.model, jobs[:1], batch=True)  # what is there once
    redis.delete(queue)
    empty = memory(redis)
    for start in range(0, count, size):
        shard = jobs[start : start + size]
        publish(app, settings, settings.model, shard, batch=True)
        live.mark_queued(shard)
    message = redis.memory_usage(queue, samples=0) / count
    job = (memory(redis) - empty) / count
    told = memory(redis)
    tell_places(redis, settings.model)
    places = memory(redis) - told
    began = time.monotonic()
    known = live.known()
    looked = time.monotonic() - began
    if known != set(jobs):
        raise SystemExit(f"{len(known)} of {count} jobs are known to be queued")
    met = size not in AIMS or job <= AIMS[size]
    aim = f" (at most {AIMS[size]} B): {'met' if met else 'MISSED'}" if size in AIMS else ""
    print(
        f"messages of {size:>2}: {job:5.0f} B a job, of which {message:5.0f} B are its part of a "
        f"message and {job - message:4.0f} B what is remembered; places of those in front "
        f"{places / 1000:.0f} kB; a look at them {looked:.1f} s; a million queued jobs "
        f"{job * MILLION / 1e9:.2f} GB{aim}",
        flush=True,
    )
    return met


def memory(redis: Redis) -> int:
    """Bytes."""
    info = redis.info("memory")
    return int(info["used_memory"] - info["mem_clients_normal"] - info["mem_aof_buffer"])


if __name__ == "__main__":
    sys.exit(main())
