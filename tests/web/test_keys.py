"""The file of keys, and the settings of a gateway."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from medgemma_tasks.errors import InvalidSettings
from medgemma_web.keys import LOOK_AGAIN, KeyRing, add_key, read_keys, remove_key
from medgemma_web.settings import load_web_settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_kept_as_its_hash_for_its_owner_alone(file: Path) -> None:
    token, key = add_key(file, "local", "a name")
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert KeyRing(file).find(token) == key
    assert KeyRing(file).find(token + "x") is None
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]


def test_what_changes_is_known_to_a_ring_that_is_in_use(file: Path) -> None:
    first, key = add_key(file, "local")
    ring = KeyRing(file)
    second, _ = add_key(file, "other")
    assert remove_key(file, key.id)
    time.sleep(LOOK_AGAIN)
    assert ring.find(first) is None
    assert ring.find(second) is not None
    file.write_text("{")  # a slip of an editor locks nobody out
    time.sleep(LOOK_AGAIN)
    assert ring.find(second) is not None
    file.unlink()
    time.sleep(LOOK_AGAIN)
    assert ring.find(second) is None


def test_a_key_that_was_removed_holds_no_longer_though_the_file_could_not_be_read_at_first(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token, key = add_key(file, "local")
    ring = KeyRing(file)
    assert remove_key(file, key.id)

    def no_more_files(path: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", no_more_files)
        for _ in range(2):
            time.sleep(LOOK_AGAIN)
            assert ring.find(token) is not None
    assert len(caplog.records) == 1
    time.sleep(LOOK_AGAIN)
    assert ring.find(token) is None


def test_a_key_that_is_not_there_cannot_be_removed(file: Path) -> None:
    add_key(file, "local")
    assert not remove_key(file, "0" * 12)
    assert len(read_keys(file)) == 1


@pytest.mark.parametrize("tenant", ["", "Upper", "../x", "a/b"])
def test_a_tenant_is_one_that_can_be(tenant: str, file: Path) -> None:
    with pytest.raises(InvalidSettings):
        add_key(file, tenant)
    assert not file.exists()


@pytest.mark.parametrize(
    "given",
    [
        {"host": "0.0.0.0"},
        {"host": "example.org"},
        {"cors_origins": "*"},
        {"cors_origins": "https://a.org/path"},
        {"public_store_url": "ftp://x"},
        {"port": 70_000},
    ],
)
def test_a_setting_that_would_be_unsafe_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings, match="MEDGEMMA_WEB_"):
        load_web_settings(**given)


def test_behind_a_proxy_another_address_may_be_bound() -> None:
    assert load_web_settings(host="0.0.0.0", behind_proxy=True).host == "0.0.0.0"
