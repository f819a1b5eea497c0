"""How fast a backfill enqueues, against how fast the store takes such puts at all.

Bare: a boto3 client puts the same bytes under keys of its own, from as many threads of the same
process, and nothing else. Enqueueing: rows whose images were read become requests, each one put,
then shards on the queue, with the journal, the manifest in the store and the keys in Redis. Whole:
with processes that read the images, which share the machine's cores with all this. Rounds alternate
and the medians are compared.

    python benchmarks/enqueue.py [--rows 2000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import boto3
import redis
from botocore.config import Config

from medgemma_cli.embedded import EmbeddedStack
from medgemma_client import Client
from medgemma_client.backfill.feeding import UPLOADERS
from medgemma_client.backfill.reading import Read
from medgemma_client.images import read_image
from medgemma_client.images.reference import reference
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.queue import queue_names
from medgemma_tasks.settings import Settings, load_settings
from medgemma_tasks.store import Store
from tests.parts import picture
from tests.stub_engine import StubEngine

AIM = 0.8
SPENT: dict[str, list[float]] = {"bare": [], "enqueueing": [], "whole": []}
"""Seconds of this process's own CPU a job: they depend less on what else the machine does."""
SHARD = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    said = parser.parse_args()
    with EmbeddedStack() as stack, tempfile.TemporaryDirectory() as temporary:
        os.environ.update(stack.environment())
        settings, folder = load_settings(), Path(temporary)
        Ledger(Store(settings), LiveState(settings)).publish_model(StubEngine().served)
        picture().save(folder / "x.png")
        found: dict[str, list[float]] = {"bare": [], "enqueueing": [], "whole": []}
        body = b""
        for number in range(said.rounds):
            rows = manifest(folder, number, said.rows)
            body = body or a_request(settings, rows, folder)
            found["bare"].append(bare(settings, body, said.rows))
            found["enqueueing"].append(enqueue(settings, rows, folder, said.rows, read=False))
            found["whole"].append(
                enqueue(settings, manifest(folder, -1 - number, said.rows), folder, said.rows)
            )
    rates = {what: statistics.median(several) for what, several in found.items()}
    print(f"{said.rows} requests of {len(body)} bytes, {UPLOADERS} threads, jobs a second:")
    for what, several in found.items():
        cpu = 1000 * statistics.median(SPENT[what])
        print(
            f"  {what:11} median {rates[what]:5.0f}, {cpu:.2f} ms of CPU each   rounds "
            f"{[round(x) for x in several]}"
        )
    ratio = rates["enqueueing"] / rates["bare"]
    print(
        f"  enqueueing / bare {ratio:.2f} (at least {AIM}): {'met' if ratio >= AIM else 'MISSED'}"
    )
    print(f"  whole / bare      {rates['whole'] / rates['bare']:.2f}")
    return 0 if ratio >= AIM else 1


def manifest(folder: Path, number: int, rows: int) -> Path:
    path = folder / f"manifest{number}.jsonl"
    with path.open("w") as file:
        for k in range(rows):
            row = {"item": f"item-{k}", "image": "x.png", "prompt": f"Round {number}, row {k}?"}
            file.write(json.dumps(row) + "\n")
    return path


def a_request(settings: Settings, rows: Path, folder: Path) -> bytes:
    """What one of the requests is."""
    job = Client(settings).submit(folder / "x.png", "Round 0, row 0000?")
    with redis.Redis.from_url(settings.broker_url.get_secret_value()) as broker:
        broker.flushdb()
    ledger = Ledger(Store(settings), LiveState(settings))
    request = ledger.request(job.id)
    assert request is not None
    return request.model_dump_json().encode()


def bare(settings: Settings, body: bytes, rows: int) -> float:
    """Puts a second."""
    client = boto3.session.Session(region_name=settings.s3_region).client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            max_pool_connections=UPLOADERS,
        ),
    )
    bucket, start = settings.bucket, f"{settings.prefix}bare/"

    def put(k: int) -> None:
        client.put_object(
            Bucket=bucket, Key=f"{start}{k:032x}/x.json", Body=body, ContentType="application/json"
        )

    put(0)
    with ThreadPoolExecutor(UPLOADERS) as pool:
        began = time.monotonic()
        cpu = time.process_time()
        list(pool.map(put, range(rows)))
        SPENT["bare"].append((time.process_time() - cpu) / rows)
        return rows / (time.monotonic() - began)


class Already:
    """In the place of readers: the one image was read before."""

    def __init__(self, folder: Path) -> None:
        image = read_image(folder / "x.png")
        self._refs, self._pngs = (reference(image, {}),), (image.png(),)

    def read(self, rows: Iterator[Any]) -> Iterator[Read]:
        for row in rows:
            yield Read(row, self._refs, self._pngs)


def enqueue(
    settings: Settings, rows: Path, folder: Path, count: int, *, read: bool = True
) -> float:
    """Jobs a second, from the first message to the last: making clients and apps is once a run."""
    broker = redis.Redis.from_url(settings.broker_url.get_secret_value())
    broker.flushdb()
    out = folder / f"out-{rows.stem}"
    work = Client(settings).backfill(rows, out=out, in_flight=count + 1, shard=SHARD)
    if not read:
        work._readers = lambda: given(Already(folder))  # type: ignore[method-assign, assignment, return-value]
    thread = Thread(target=lambda: list(work))
    thread.start()
    queue = queue_names(settings.model)[1]
    while not (first := broker.llen(queue) * SHARD):
        time.sleep(0.005)
    began, cpu = time.monotonic(), time.process_time()
    while broker.llen(queue) * SHARD < count:
        time.sleep(0.02)
    seconds = time.monotonic() - began
    spent = (time.process_time() - cpu) / (count - first)
    SPENT["whole" if read else "enqueueing"].append(spent)
    work.stop()
    thread.join()
    return (count - first) / seconds


@contextmanager
def given(readers: Already) -> Iterator[Already]:
    yield readers


if __name__ == "__main__":
    sys.exit(main())
