"""Jobs of benchmarks: written ahead by the client, sent in messages of a size, and heard of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from celery import Celery
from redis import Redis

from medgemma_client import Client
from medgemma_client.job import Job
from medgemma_tasks.queue import publish
from medgemma_tasks.settings import Settings

WRITERS = 4
"""Requests that are written beside each other."""


def written(
    client: Client, count: int, question: Callable[[int], tuple[Any, str]], **options: Any
) -> list[Job]:
    """So many jobs, all there but for their messages. ``question``: image and prompt of each."""
    with patch.object(client, "_publish"), ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(lambda k: client.submit(*question(k), **options), range(count)))


def send(app: Celery, settings: Settings, jobs: Sequence[str], size: int) -> None:
    """Put them on the queue: shards on the batch queue, single jobs on the interactive one."""
    for start in range(0, len(jobs), size):
        publish(app, settings, settings.model, jobs[start : start + size], batch=size > 1)


@contextmanager
def hearing(redis: Redis) -> Iterator[dict[str, float]]:
    """When each job's result was announced from here on, by its id, on the monotonic clock."""
    heard: dict[str, float] = {}
    pubsub = redis.pubsub(ignore_subscribe_messages=True)
    pubsub.psubscribe("medgemma:done:*")
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            message = pubsub.get_message(timeout=0.5)
            if message is not None:
                heard.setdefault(message["channel"].rpartition(":")[2], time.monotonic())

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join()
        pubsub.close()


def wait(jobs: Sequence[str], heard: Mapping[str, float], seconds: float) -> None:
    """Until all have ended; SystemExit where they have not after so many seconds."""
    deadline = time.monotonic() + seconds
    while missing := [job for job in jobs if job not in heard]:
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(missing)} of {len(jobs)} jobs had not ended")
        time.sleep(0.05)


def at(values: Sequence[float], part: float) -> float:
    """A quantile."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0
