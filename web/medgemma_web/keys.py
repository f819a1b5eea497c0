"""API keys: who may ask, for which tenant, and how much. Only hashes of them are kept.

A key is 256 random bits, so its plain SHA-256 cannot be tried through, as a password's could.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medgemma_client.errors import FileUnwritable, InvalidSettings
from medgemma_client.models import Tenant

log = logging.getLogger(__name__)

PREFIX = "mge_"
"""How each key begins, so that scanners of leaked secrets know it."""

LOOK_AGAIN = 1.0
"""Seconds between two looks at whether the file changed."""


class ApiKey(BaseModel):
    """A key as it is kept: all but the key itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern="^[0-9a-f]{12}$")
    """Names it in logs and in Redis; of no use to anybody else."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    tenant: Tenant
    name: str = Field(default="", max_length=100)
    """For whoever runs the gateway."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    jobs_per_day: int | None = Field(default=None, ge=1)
    created_at: datetime


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    version: Literal[1] = 1
    keys: tuple[ApiKey, ...] = ()


class KeyRing:
    """The keys of a file, which is read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidSettings where the file is not there or is none of keys."""
        self._path = path
        self._lock = threading.Lock()
        self._seen = self._unread = _stamp(path)
        self._looked = time.monotonic()
        self._keys = read_keys(path)

    def find(self, token: str) -> ApiKey | None:
        """The key that a caller showed, or None."""
        shown = _hash(token)
        found = None
        for key in self._current():  # all of them: how long it takes tells nothing
            if hmac.compare_digest(key.sha256, shown):
                found = key
        return found

    def knows(self, key: ApiKey) -> bool:
        """Whether a key that was found still holds, as it was."""
        return key in self._current()

    def _current(self) -> Sequence[ApiKey]:
        with self._lock:
            if time.monotonic() - self._looked >= LOOK_AGAIN:
                self._looked = time.monotonic()
                stamp = _stamp(self._path)
                if stamp != self._seen and self._read(told=stamp == self._unread):
                    self._seen = stamp
                self._unread = stamp
            return self._keys

    def _read(self, *, told: bool) -> bool:
        """Whether it could be read; else it is tried again, since a key may have been removed."""
        try:
            self._keys = read_keys(self._path)
        except InvalidSettings as error:
            # A slip of an editor must not lock everybody out; one that is gone is meant.
            if not self._path.exists():
                self._keys = ()
            if not told:
                log.error("the file of keys cannot be read (%s)", error.code)
            return False
        log.info("the file of keys was read again: %d keys", len(self._keys))
        return True


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Raises InvalidSettings."""
    try:
        return _File.model_validate_json(path.read_bytes()).keys
    except FileNotFoundError:
        raise InvalidSettings(
            "The file of API keys is not there. `medgemma-explainer keys add` makes it."
        ) from None
    except OSError as error:
        raise InvalidSettings(f"The file of API keys cannot be read ({error.strerror}).") from None
    except ValidationError:
        raise InvalidSettings(
            "The file of API keys is none: it is JSON as `medgemma-explainer keys add` writes it."
        ) from None


def add_key(
    path: Path,
    tenant: str,
    name: str = "",
    *,
    requests_per_minute: int | None = None,
    jobs_per_day: int | None = None,
) -> tuple[str, ApiKey]:
    """Make a key, and keep its hash. The key itself is given back, and is nowhere else.

    Raises InvalidSettings, FileUnwritable.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    try:
        key = ApiKey(
            id=secrets.token_hex(6),
            sha256=_hash(token),
            tenant=tenant,
            name=name,
            requests_per_minute=requests_per_minute,
            jobs_per_day=jobs_per_day,
            created_at=datetime.now(UTC),
        )
    except ValidationError:
        raise InvalidSettings(
            "A tenant is small letters, digits and hyphens; a name has 100 characters at most, and "
            "a limit is 1 or more."
        ) from None
    with _changing(path):
        known = read_keys(path) if path.exists() else ()
        _write(path, (*known, key))
    return token, key


def remove_key(path: Path, key_id: str) -> bool:
    """Forget a key; False where there is none of that id. Raises as ``add_key``."""
    with _changing(path):
        known = read_keys(path)
        kept = tuple(key for key in known if key.id != key_id)
        if len(kept) == len(known):
            return False
        _write(path, kept)
    return True


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """One at a time changes the file."""
    try:
        folder = os.open(path.absolute().parent, os.O_RDONLY)
    except OSError as error:
        raise FileUnwritable(f"The folder of the keys cannot be used ({error.strerror}).") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, keys: tuple[ApiKey, ...]) -> None:
    """For this user alone, and whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    content = _File(keys=keys).model_dump_json(indent=2, exclude_none=True).encode() + b"\n"
    try:
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise FileUnwritable(f"The file of keys cannot be written ({error.strerror}).") from None
