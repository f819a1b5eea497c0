"""What doctor says of a store: moto's, which knows conditions and policies, and rclone's."""

from __future__ import annotations

import time
from collections.abc import Callable

import boto3
import pytest

from medgemma_cli.doctor.finding import Level
from medgemma_cli.doctor.storage import Storage
from medgemma_tasks.errors import StoreRefused
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.cli.doctor.told import findings, levels
from tests.deploy.test_s3_policies import session_of

__all__ = ["session_of"]


def test_of_a_store_as_it_should_be_all_is_well_and_nothing_is_left_there(
    store: Store, settings: Settings
) -> None:
    assert set(levels(Storage(settings, store).part()).values()) == {Level.OK}
    assert store.keys("") == []


def test_a_real_server_without_conditional_puts_is_warned_of(stack_settings: Settings) -> None:
    found = levels(Storage(stack_settings).part())
    assert found.pop("conditional puts") is Level.WARNING
    assert set(found.values()) == {Level.OK}
    assert Store(stack_settings).keys("") == []


@pytest.mark.parametrize("user", ["client", "worker"])
def test_the_policies_let_it_look(
    session_of: Callable[[str], boto3.session.Session], settings: Settings, user: str
) -> None:
    store = Store(settings)
    store.__dict__["_session"] = session_of(user)
    assert set(levels(Storage(settings, store).part()).values()) == {Level.OK}


@pytest.mark.parametrize("doing", ["put", "get", "listing", "delete"])
def test_what_is_refused_is_named(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    def refuses(*_: object) -> None:
        raise StoreRefused("The store refused (HTTP 403, AccessDenied). Check it.", status=403)

    monkeypatch.setattr(store, doing, refuses)
    found = Storage(settings, store).objects()
    word = {"put": "write", "get": "read", "listing": "list", "delete": "delete"}[doing]
    assert found.level is Level.FAILED
    assert f"does not let us {word} below local/probe/ (HTTP 403)" in found.found
    monkeypatch.undo()
    assert (store.keys("") == []) == (doing != "delete")


def test_a_store_that_gives_other_bytes_back_is_found(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "get", lambda key: b"other")
    assert "read back as something else" in Storage(settings, store).objects().found
    assert store.keys("") == []


@pytest.mark.parametrize(("seconds", "word"), [(60, "behind"), (-60, "ahead of")])
def test_clocks_that_differ_are_a_fault(
    store: Store, settings: Settings, seconds: float, word: str
) -> None:
    found = findings(Storage(settings, store, now=lambda: time.time() + seconds).part())["clock"]
    assert found.level is Level.FAILED
    assert word in found.found
    assert "NTP" in found.advice


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "canary"}, "SignatureDoesNotMatch"),
        ({"MEDGEMMA_STORE_URL": "s3://no-such-bucket"}, "no such bucket"),
        ({"MEDGEMMA_S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no AWS credentials"),
    ],
)
def test_a_store_that_does_not_let_us_in_is_told_by_its_reason(
    stack_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    words: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = findings(Storage(Settings(connect_timeout=0.5)).part())
    assert found["connection"].level is Level.FAILED
    assert words in found["connection"].found
    assert "canary" not in str(found)
