"""What a sweep puts back, and what it leaves alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta

import fakeredis
import pytest

from medgemma_tasks import reconcile
from medgemma_tasks.errors import BrokerUnreachable, StoreRefused
from medgemma_tasks.in_hand import PAGE, UNACKED, jobs_of, tell
from medgemma_tasks.layout import request_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.queue import queue_names
from medgemma_tasks.reconcile import Reconciler, Swept
from medgemma_tasks.store import Store
from medgemma_tasks.walking import tenants_of
from tests.parts import JOB, record_of, request_for

Sent = list[tuple[str, str, str, bool]]


class _Later(datetime):
    """A clock that is a minute ahead: what was just written is past its grace."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(minutes=1)  # type: ignore[arg-type]


@pytest.fixture
def sent() -> Sent:
    return []


@pytest.fixture
def reconciler(
    store: Store, live: LiveState, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> Reconciler:
    monkeypatch.setattr(reconcile, "datetime", _Later)
    return Reconciler(store, live, settle=0, publish=lambda *message: sent.append(message))


@pytest.fixture
def job(ledger: Ledger) -> str:
    """A job whose message is nowhere."""
    request = request_for()
    ledger.put_request(request)
    return request.job_id


def message(*jobs: str) -> str:
    body = [[{"schema": 1, "tenant": "local", "jobs": jobs}], {}, {}]
    return json.dumps({"body": base64.b64encode(json.dumps(body).encode()).decode()})


def test_a_request_without_mark_and_message_is_put_on_its_models_queue(
    reconciler: Reconciler, job: str, sent: Sent
) -> None:
    assert reconciler.sweep() == Swept(put_back=[job])
    assert sent == [("phantom", "local", job, False)]


def test_a_job_of_the_batch_queue_comes_back_there(
    reconciler: Reconciler, ledger: Ledger, sent: Sent
) -> None:
    request = request_for().model_copy(update={"batch": True})
    ledger.put_request(request)
    reconciler.sweep()
    assert sent == [("phantom", "local", request.job_id, True)]


def test_a_job_with_its_mark_is_left_alone(
    reconciler: Reconciler, job: str, ledger: Ledger, sent: Sent
) -> None:
    ledger.commit(record_of(job))
    assert reconciler.sweep() == Swept(finished=1)
    assert sent == []


@pytest.mark.parametrize("lane", [0, 1])
def test_a_queued_job_is_left_alone_wherever_it_stands(
    reconciler: Reconciler, job: str, redis_fake: fakeredis.FakeRedis, sent: Sent, lane: int
) -> None:
    queue = queue_names("another/model")[lane]
    redis_fake.rpush(queue, *[message(JOB)] * (PAGE + 1), message(JOB, job))
    assert reconciler.sweep().known == 1
    assert sent == []


def test_a_delivered_job_is_left_alone(
    reconciler: Reconciler, job: str, redis_fake: fakeredis.FakeRedis, sent: Sent
) -> None:
    redis_fake.hset(UNACKED, "tag", json.dumps([json.loads(message(job)), "", "queue"]))
    assert reconciler.sweep().known == 1
    assert sent == []


def test_a_job_in_a_workers_hands_is_left_alone_until_the_worker_is_silent(
    reconciler: Reconciler, job: str, redis_fake: fakeredis.FakeRedis
) -> None:
    tell(redis_fake, "a", [JOB, job], 60)
    tell(redis_fake, "b", [JOB], 60)
    assert 10_000 < redis_fake.pttl("medgemma:running:a") <= 15_000
    assert reconciler.sweep().known == 1
    redis_fake.delete("medgemma:running:a")
    assert reconciler.sweep().put_back == [job]


def test_given_redis_just_lost_its_memory_what_workers_say_after_it_counts(
    reconciler: Reconciler,
    job: str,
    redis_fake: fakeredis.FakeRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconcile.time, "sleep", lambda _: tell(redis_fake, "a", [job], 60))
    assert reconciler.sweep() == Swept(known=1)


def test_what_was_known_before_redis_lost_its_memory_counts_too(
    reconciler: Reconciler,
    job: str,
    redis_fake: fakeredis.FakeRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tell(redis_fake, "a", [job], 60)
    monkeypatch.setattr(reconcile.time, "sleep", lambda _: redis_fake.flushall())
    assert reconciler.sweep() == Swept(known=1)


def test_a_request_that_was_just_written_is_left_to_its_client(
    reconciler: Reconciler, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "datetime", datetime)
    assert reconciler.sweep() == Swept(young=1)


def test_two_sweeps_put_a_job_back_once(
    reconciler: Reconciler, job: str, redis_fake: fakeredis.FakeRedis, sent: Sent
) -> None:
    assert reconciler.sweep().put_back == [job]
    assert reconciler.sweep() == Swept(lately=1)
    assert len(sent) == 1
    assert 0 < redis_fake.ttl(f"medgemma:put-back:local:{job}") <= 60


def test_a_job_that_could_not_be_published_is_put_back_by_the_next_sweep(
    store: Store, live: LiveState, job: str, reconciler: Reconciler
) -> None:
    def away(*_: object) -> None:
        raise BrokerUnreachable("gone")

    with pytest.raises(BrokerUnreachable):
        Reconciler(store, live, settle=0, publish=away).sweep()
    assert reconciler.sweep().put_back == [job]


def test_every_tenant_with_jobs_is_swept_and_models_are_none(
    reconciler: Reconciler, ledger: Ledger, live: LiveState, store: Store, sent: Sent
) -> None:
    store.put("models/phantom.json", b"{}")
    store.put("Not a tenant/x", b"")
    store.put(request_key("another", JOB), request_for().model_dump_json().encode())
    assert tenants_of(store) == ["another"]
    assert reconciler.sweep().put_back == [JOB]
    assert sent == [("phantom", "another", JOB, False)]


def test_where_tenants_cannot_be_listed_our_own_is_swept(
    reconciler: Reconciler, job: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> list[str]:
        raise StoreRefused("no")

    monkeypatch.setattr(store, "folders", refuse)
    assert reconciler.sweep().put_back == [job]


def test_given_ids_only_those_are_put_back(reconciler: Reconciler, ledger: Ledger) -> None:
    wanted, other = request_for("One?"), request_for("Two?")
    for request in (wanted, other):
        ledger.put_request(request)
    assert reconciler.sweep(["local"], jobs=[wanted.job_id]) == Swept(put_back=[wanted.job_id])


def test_a_request_of_a_newer_version_is_left_to_it_and_stops_nothing(
    reconciler: Reconciler, job: str, store: Store
) -> None:
    store.put(request_key("local", JOB), b'{"schema_version": 99}')
    store.put("local/jobs/no-id/request.json", b"{}")
    assert reconciler.sweep() == Swept(put_back=[job], unreadable=2)


def test_it_says_on_the_way_that_it_goes_on(
    reconciler: Reconciler, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "HEARTBEAT", 1)
    told: list[int] = []
    reconciler.sweep(alive=lambda: told.append(1))
    assert len(told) == 1


@pytest.mark.parametrize("item", ["", "[]", "{", "1", '{"body": "canary"}', message("../x")])
def test_what_is_no_message_of_ours_holds_no_jobs(item: str) -> None:
    assert jobs_of(item) == ()


def test_a_bucket_is_listed_page_by_page(
    store: Store, monkeypatch: pytest.MonkeyPatch, reconciler: Reconciler, job: str
) -> None:
    asked: list[dict[str, str]] = []
    whole: Callable[..., dict[str, object]] = store._bulk.list_objects_v2

    def small(**options: str) -> dict[str, object]:
        asked.append(options)
        return whole(**options, MaxKeys=2)

    monkeypatch.setattr(store._bulk, "list_objects_v2", small)
    keys = [f"x/{number}" for number in range(5)]
    for key in keys:
        store.put(key, b"1")
    assert [entry.key for entry in store.listing("x/")] == keys
    assert len(asked) == 3
