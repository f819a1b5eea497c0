"""What a purge takes from a real S3 server, and leaves there, beside jobs that are still to run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from medgemma_client.backfill.item import Item
from medgemma_tasks.errors import JobError, JobNotFinished, ServiceError
from medgemma_tasks.layout import input_key, job_prefix, request_key
from medgemma_tasks.purge import Purged, Purger
from medgemma_tasks.queue import queue_names
from tests.parts import picture, reference
from tests.service.harness import Service, until
from tests.service.test_backfill import Command, good_rows, manifest, table
from tests.stub_engine import ANSWER, StubEngine

WAIT = 90.0
DAY, HOURS = 86_400.0, 7_200.0


def run_of(service: Service, folder: Path, name: str, prompts: str, **choices: Any) -> list[Item]:
    """A run of a question for each letter, about an image that the letter alone has."""
    rows = []
    for letter in prompts:
        path = folder / f"{letter}.png"
        picture(grey=ord(letter)).save(path)
        crashes = "crash once " if letter == "C" else ""
        rows.append({"item": letter, "image": path, "prompt": f"{crashes}is there {letter}?"})
    items = service.client.backfill(rows, run=name, out=folder / name, **choices)
    return sorted(items, key=lambda item: str(item.item))


def make_old(service: Service, keys: Iterable[str], seconds: float = HOURS) -> None:
    """As if these objects had been written so many seconds ago, by the server's clock."""
    store = service.ledger.store
    for key in keys:
        bucket, full = store.settings.bucket, store._full(key)
        store._bulk.copy_object(
            Bucket=bucket,
            Key=full,
            CopySource={"Bucket": bucket, "Key": full},
            Metadata={"mtime": str(time.time() - seconds)},
            MetadataDirective="REPLACE",
        )


def purge(service: Service, *, days: float, **said: Any) -> Purged:
    """As the command does it so many days later, but for the half minute in which others may name
    an input."""
    now = datetime.fromtimestamp(time.time() + days * DAY, UTC)
    return Purger(service.ledger, settle=0, now=lambda: now).purge(**said)


def keys_of(service: Service, *jobs: str) -> set[str]:
    return {key for job in jobs for key in service.ledger.store.keys(job_prefix("local", job))}


def input_of(letter: str) -> set[str]:
    name = reference(picture(grey=ord(letter))).name
    return {input_key("local", name, kind) for kind in ("png", "json")}


def size_of(service: Service, *jobs: str) -> int:
    prefixes = (job_prefix("local", job) for job in jobs)
    return sum(e.size for prefix in prefixes for e in service.ledger.store.listing(prefix))


def test_what_expired_goes_and_what_is_still_to_run_runs(idle: Service, tmp_path: Path) -> None:
    store = idle.ledger.store
    with idle.worker:
        a, b, c, d, e = (
            str(item.job_id)
            for item in run_of(idle, tmp_path, "old", "ABCDE", expire_after=7 * DAY)
        )
        run_of(idle, tmp_path, "kept", "E")
        by_hand = idle.client.submit(tmp_path / "A.png", "Asked by hand about the image of A?")
        by_hand.wait(WAIT)
    make_old(idle, store.keys("local/"))
    again = idle.client.requeue(c)
    request = idle.ledger.request(d)
    assert request is not None
    idle.ledger.put_request(request)
    before = set(store.keys("local/"))
    expected = keys_of(idle, a, b) | input_of("B")

    assert purge(idle, days=6) == Purged()
    found = purge(idle, days=8)
    assert (found.runs, found.jobs, found.inputs) == ([], 2, 1)
    assert (found.shared, found.unfinished, found.young) == (1, 1, 1)
    assert before - set(store.keys("local/")) == expected

    with idle.worker:
        assert again.wait(WAIT).answer == by_hand.result().answer == ANSWER
    make_old(idle, keys_of(idle, c, d))
    found = purge(idle, days=8)
    assert (found.runs, found.jobs, found.shared) == (["old"], 2, 1)
    left = {key.split("/")[2] for key in store.keys("local/jobs/")}
    assert left == {e, by_hand.id}
    assert set(store.keys("local/inputs/")) == input_of("A") | input_of("E")
    assert {key.split("/")[2] for key in store.keys("local/runs/")} == {"kept"}


def test_of_a_run_over_its_quota_the_oldest_jobs_go_and_it_is_resumed_all_the_same(
    idle: Service, tmp_path: Path
) -> None:
    with idle.worker:
        items = run_of(idle, tmp_path, "large", "ABDEF")
        jobs = [str(item.job_id) for item in items]
        newest = [jobs[k] for k in (3, 0)]
        for k, job in enumerate((jobs[2], jobs[4], jobs[1], *newest)):
            make_old(idle, keys_of(idle, job), HOURS + 600 * (5 - k))
        make_old(idle, idle.ledger.store.keys("local/inputs/"))
        quota = size_of(idle, *newest)
        assert size_of(idle, *jobs) > quota
        # Its own limit, said when it goes on: nothing of it is done again.
        items = run_of(idle, tmp_path, "large", "ABDEF", max_bytes=quota)
        assert {item.earlier for item in items} == {True}
        found = purge(idle, days=0)
        assert (found.runs, found.jobs, found.inputs) == ([], 3, 3)
        assert size_of(idle, *jobs) == quota
        assert purge(idle, days=0) == Purged()
        items = run_of(idle, tmp_path, "large", "ABDEF", max_bytes=quota)
    assert {item.answer for item in items} == {ANSWER}  # from its journal
    assert items[0].result().overlay().size == (8, 6)
    with pytest.raises(JobNotFinished):
        items[1].result()


def test_a_row_whose_request_was_deleted_before_it_ran_ends_as_failed(
    idle: Service, tmp_path: Path
) -> None:
    """And runs when that is asked for."""
    idle.ledger.publish_model(StubEngine().served)
    path = manifest(tmp_path, good_rows(tmp_path, 12))
    arguments = (str(path), "--out", "out", "--shard", "4")
    command = Command(tmp_path, *arguments)
    until(lambda: idle.redis.llen(queue_names("phantom")[1]) == 3, WAIT)
    gone = sorted(key.split("/")[2] for key in idle.ledger.store.keys("local/jobs/"))[:2]
    idle.ledger.store.delete(*(request_key("local", job) for job in gone))
    with idle.worker:
        status, said, wrong = command.ends()
        assert status == 1, wrong
        assert "12 rows: 10 succeeded, 2 failed" in said
        failures = table(tmp_path / "out" / "failures.csv")
        assert sorted(row["job"] for row in failures) == gone
        assert {row["code"] for row in failures} == {"job_purged"}
        status, said, _ = Command(tmp_path, *arguments, "--retry-failed").ends()
    assert status == 0, said
    assert table(tmp_path / "out" / "failures.csv") == []


def test_who_asks_while_it_is_purged_gets_the_old_result_or_a_new_one(
    idle: Service, tmp_path: Path
) -> None:
    """Jobs by hand, old by the store's clock, are asked again and again while they go."""
    store, prompts = idle.ledger.store, [f"Is there {k}?" for k in range(8)]
    with idle.worker:
        old = [idle.ask(prompt) for prompt in prompts]
        for job in old:
            job.wait(WAIT)
        make_old(idle, store.keys("local/"))
        ended: set[str] = set()
        failures: list[str] = []

        def ask() -> None:
            for prompt in prompts:
                try:
                    ended.add(idle.ask(prompt).wait(WAIT).answer)
                except (ServiceError, JobError) as error:
                    failures.append(error.code)

        purger = Purger(idle.ledger, settle=2)
        with ThreadPoolExecutor(2) as pool:
            asking = pool.submit(ask)
            found = pool.submit(purger.purge, None, HOURS / 2).result()
            asking.result()
        assert ended <= {ANSWER}
        assert len(failures) < len(prompts)
        assert 0 < found.jobs <= len(prompts)
        # Whatever was in between: asked now, each is answered, with its image there.
        assert {idle.ask(prompt).wait(WAIT).answer for prompt in prompts} == {ANSWER}
