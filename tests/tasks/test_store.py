from __future__ import annotations

import hashlib
import time

import pytest

from medgemma_tasks.errors import ArtifactDamaged, StoreRefused, StoreUnreachable
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store

LONGEST = 5.0
"""Seconds within which an unreachable store is an error."""


def test_what_is_put_is_got_back(store: Store) -> None:
    store.put("a/b.json", b"{}")
    assert store.get("a/b.json") == b"{}"
    assert store.exists("a/b.json")


def test_what_was_never_put_is_none(store: Store) -> None:
    assert store.get("a/b.json") is None
    assert not store.exists("a/b.json")


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


def test_the_first_conditional_put_wins(store: Store) -> None:
    assert store.conditional
    assert store.put_conditionally("mark", b"first")
    assert not store.put_conditionally("mark", b"second")
    assert store.get("mark") == b"first"


def test_the_probe_leaves_nothing_behind(store: Store) -> None:
    assert store.conditional
    assert store.keys("") == []


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
