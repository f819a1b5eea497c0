"""Everything that a service says while it works: to Redis, in events, in logs, in the store."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import boto3
import redis

from medgemma_tasks.queue import make_app
from medgemma_tasks.settings import Settings


@contextmanager
def monitored(url: str) -> Iterator[bytearray]:
    """All that anybody says to a Redis server meanwhile, as MONITOR writes it."""
    parts = urlsplit(url)
    told = bytearray()
    with socket.create_connection((parts.hostname, parts.port or 6379)) as wire:
        for command in (f"AUTH {parts.password}" if parts.password else "PING", "MONITOR"):
            wire.sendall(f"{command}\r\n".encode())
            assert wire.recv(100)[:1] == b"+"
        thread = threading.Thread(target=_drain, args=(wire, told))
        thread.start()
        try:
            yield told
        finally:
            wire.shutdown(socket.SHUT_RDWR)
            thread.join()


def _drain(wire: socket.socket, told: bytearray) -> None:
    while piece := wire.recv(1 << 16):
        told += piece


@contextmanager
def events(settings: Settings) -> Iterator[list[dict[str, Any]]]:
    """The Celery events meanwhile, of workers that were told to send them."""
    app, heard = make_app(settings), []
    listening, stop = threading.Event(), threading.Event()

    def capture() -> None:
        with app.connection() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": heard.append})
            with receiver.consumer_context(wakeup=False) as (own, _, _):
                listening.set()
                while not stop.is_set():
                    with suppress(TimeoutError):
                        own.drain_events(timeout=0.2)

    thread = threading.Thread(target=capture)
    thread.start()
    listening.wait()
    try:
        yield heard
    finally:
        stop.set()
        thread.join()


@contextmanager
def logs() -> Iterator[list[str]]:
    """What this process logs meanwhile, at any level, with its traces."""
    told: list[str] = []
    handler = logging.Handler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    handler.emit = lambda record: told.append(handler.format(record))  # type: ignore[method-assign]
    root = logging.getLogger()
    level, root.level = root.level, logging.DEBUG
    root.manager._clear_cache()  # type: ignore[attr-defined]
    root.addHandler(handler)
    try:
        yield told
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def memory(client: redis.Redis) -> bytes:
    """All that a Redis database holds: each key with its whole value, whatever its type."""
    readers = {
        b"string": lambda key: client.get(key),
        b"hash": lambda key: client.hgetall(key),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": lambda key: client.smembers(key),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": lambda key: client.xrange(key),
    }
    held = []
    for key in client.keys("*"):
        if (kind := client.type(key)) != b"none":  # it was there a moment ago
            held.append(f"{key!r} {readers[kind](key)!r}")
    return "\n".join(held).encode()


def objects(settings: Settings) -> dict[str, str]:
    """What the store says of each object, its content aside: headers, metadata, tags."""
    client = boto3.client("s3", endpoint_url=settings.s3_endpoint_url)
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=settings.bucket, Prefix=settings.prefix
    )
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    found = {}
    for key in keys:
        answer = client.head_object(Bucket=settings.bucket, Key=key)
        found[key] = json.dumps(answer, default=str)
    client.close()
    return found
