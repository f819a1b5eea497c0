from __future__ import annotations

import hashlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, HTTPClientError

from medgemma_tasks.errors import (
    ArtifactDamaged,
    InvalidRequest,
    JobCancelled,
    StoreRefused,
    StoreUnreachable,
)
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store

LONGEST = 20.0
"""Seconds within which an unreachable store is an error."""


def test_what_is_put_is_got_back(store: Store) -> None:
    store.put("a/b.json", b"{}")
    assert store.get("a/b.json") == b"{}"
    assert store.exists("a/b.json")


def test_what_was_never_put_is_none(store: Store) -> None:
    assert store.get("a/b.json") is None
    assert not store.exists("a/b.json")


def test_what_is_larger_than_asked_for_is_refused_before_it_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", b"12345")
    assert store.get("a", most=5) == b"12345"

    def read(*_: object) -> bytes:
        raise AssertionError("it was read")

    monkeypatch.setattr("botocore.response.StreamingBody.read", read)
    with pytest.raises(InvalidRequest, match="a has 5 bytes, and at most 4"):
        store.get("a", most=4)


def test_keys_are_listed_in_order_without_the_prefix(store: Store) -> None:
    for key in ("jobs/b", "jobs/a", "models/x"):
        store.put(key, b"1")
    assert store.keys("jobs/") == ["jobs/a", "jobs/b"]


def test_one_and_many_keys_are_deleted_and_missing_ones_are_no_error(store: Store) -> None:
    for key in ("a", "b", "c"):
        store.put(key, b"1")
    store.delete("a")
    store.delete("b", "c", "never-there")
    store.delete()
    assert store.keys("") == []


@pytest.mark.parametrize(
    ("code", "error"), [("AccessDenied", StoreRefused), ("InternalError", StoreUnreachable)]
)
def test_a_key_that_was_not_deleted_among_others_is_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: str, error: type[Exception]
) -> None:
    """The server says so in an answer that otherwise says that all went well."""
    make_call = BaseClient._make_api_call  # type: ignore[attr-defined]

    def call(client: BaseClient, name: str, options: dict[str, Any]) -> Any:
        if name == "DeleteObjects":
            return {"Errors": [{"Key": "b", "Code": code, "Message": "canary"}]}
        return make_call(client, name, options)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    with pytest.raises(error) as caught:
        store.delete("a", "b")
    assert "canary" not in str(caught.value)


def test_the_first_conditional_put_wins(store: Store) -> None:
    assert store.conditional
    assert store.put_conditionally("mark", b"first")
    assert not store.put_conditionally("mark", b"second")
    assert store.get("mark") == b"first"


def test_the_probe_leaves_nothing_behind(store: Store) -> None:
    assert store.conditional
    assert store.keys("") == []


def refusing(store: Store, monkeypatch: pytest.MonkeyPatch, operation: str, status: int) -> None:
    """Make the server answer one operation so."""
    make_call = BaseClient._make_api_call  # type: ignore[attr-defined]

    def call(client: BaseClient, name: str, options: dict[str, Any]) -> Any:
        if name == operation:
            answer = {"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, name)  # type: ignore[arg-type]
        return make_call(client, name, options)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)


def test_the_probe_lies_where_its_writer_may_write(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(store, monkeypatch, "DeleteObject", 403)
    assert store.conditional  # a probe that stays is no reason to stop
    (key,) = store.keys("")
    assert key.startswith("local/probe/")


def test_a_probe_that_is_forbidden_is_a_refusal_until_it_is_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refusing(store, patch, "PutObject", 403)
        with pytest.raises(StoreRefused, match=r"local/probe/.*security"):
            _ = store.conditional
    assert store.conditional


def test_a_server_that_does_not_know_conditions_has_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(store, monkeypatch, "PutObject", 501)
    assert not store.conditional


def test_a_put_may_take_longer_the_more_bytes_it_has(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    client = store._client

    def noted(seconds: float) -> Any:
        given.append(seconds)
        return client(seconds)

    monkeypatch.setattr(store, "_client", noted)
    for size in (10, 900_000, 1_000_000, 20_000_000):
        store.put("x", b"1" * size)
    assert given == [2.0, 2.0, 4.0, 32.0]


def test_a_store_that_takes_a_put_and_never_answers_is_given_up_soon(settings: Settings) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = Store(Settings(store_url="s3://bucket", s3_endpoint_url=endpoint))
        _ = store._quick  # the first client of a process takes a while to make
        start = time.monotonic()
        with pytest.raises(StoreUnreachable):
            store.put("key", b"1" * 100_000)
        assert time.monotonic() - start < LONGEST


def test_bytes_with_the_named_hash_are_handed_out(store: Store) -> None:
    store.put("x", b"bytes")
    assert store.get_verified("x", hashlib.sha256(b"bytes").hexdigest()) == b"bytes"


def test_other_or_missing_bytes_are_damaged(store: Store) -> None:
    store.put("x", b"others")
    sha256 = hashlib.sha256(b"bytes").hexdigest()
    for key in ("x", "missing"):
        with pytest.raises(ArtifactDamaged):
            store.get_verified(key, sha256)


def test_a_bucket_that_is_not_there_is_a_refusal(store: Store) -> None:
    other = Store(Settings(store_url="s3://nowhere", s3_endpoint_url=None))
    with pytest.raises(StoreRefused, match="no such bucket"):
        other.get("key")
    with pytest.raises(StoreRefused, match="no such bucket"):
        other.put("key", b"1")


@pytest.mark.parametrize("endpoint", ["http://user:secret@127.0.0.1:9", "http://127.0.0.1:9"])
def test_an_unreachable_store_is_named_without_credentials_and_soon(
    settings: Settings, endpoint: str
) -> None:
    store = Store(Settings(store_url="s3://bucket", s3_endpoint_url=endpoint))
    start = time.monotonic()
    with pytest.raises(StoreUnreachable) as caught:
        store.get("key")
    assert time.monotonic() - start < LONGEST
    assert "127.0.0.1:9" in caught.value.message
    assert "secret" not in caught.value.message
    assert "testing" not in caught.value.message


def test_missing_credentials_are_a_refusal_that_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreRefused, match="credentials"):
        Store(settings).get("key")


def test_a_job_that_is_cancelled_in_the_middle_of_a_call_is_no_trouble_of_the_stores(
    store: Store,
) -> None:
    """botocore wraps whatever a signal's handler raises there."""

    def interrupted() -> None:
        raise HTTPClientError(error=JobCancelled("It was cancelled."))

    def broken() -> None:
        raise HTTPClientError(error=OSError("broken pipe"))

    with pytest.raises(JobCancelled):
        store._call(interrupted)
    with pytest.raises(StoreUnreachable):
        store._call(broken)


@pytest.mark.parametrize(("at_once", "seen"), [(2, 2), (None, 6)])
def test_no_more_calls_are_under_way_than_are_allowed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, at_once: int | None, seen: int
) -> None:
    store, under_way, most = Store(settings, at_once), threading.Semaphore(0), list[int]()
    go_on, counting, now = threading.Event(), threading.Lock(), [0]

    def put_object(**_: Any) -> None:
        with counting:
            now[0] += 1
            most.append(now[0])
        under_way.release()
        go_on.wait(60)
        with counting:
            now[0] -= 1

    client = SimpleNamespace(put_object=put_object)
    monkeypatch.setattr(store, "_client", lambda _: client)
    with ThreadPoolExecutor(6) as pool:
        puts = [pool.submit(store.put, f"k{k}", b"") for k in range(6)]
        for _ in range(seen):
            assert under_way.acquire(timeout=60)
        assert not under_way.acquire(blocking=False)
        go_on.set()
        for put in puts:
            put.result(60)
    assert max(most) == seen
