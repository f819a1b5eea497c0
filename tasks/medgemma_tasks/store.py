"""The object store: bytes under keys, in one bucket and under one prefix. The ledger of all jobs.

Any S3 server with path-style addresses and signature version 4 will do. boto3 is imported when the
store is first used, so that importing the client stays quick.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import cached_property
from http.client import HTTPException
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any, TypeVar

from medgemma_tasks.entry import Entry, entries_of
from medgemma_tasks.errors import (
    ArtifactDamaged,
    InvalidRequest,
    StoreRefused,
)
from medgemma_tasks.layout import probe_key
from medgemma_tasks.s3 import failure, make_client, refusal
from medgemma_tasks.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

QUICK_READ_TIMEOUT = 2.0
"""Seconds a server may take to answer for a small record. Two tries stay under 5 s in all."""

BULK_READ_TIMEOUT = 60.0
"""Seconds a server may take to begin sending an image or an artifact, or to delete many."""

BYTES_A_SECOND = 1_000_000
"""How slowly a server may store: for each so many bytes it is given one second more."""

LARGEST_RECORD = 128 * 2**20
"""Bytes of a JSON record that is read. A result of 512 targets (the most that a worker explains)
over 11,000 tokens comes to it; all others are far below."""

DELETE_BATCH = 1000
"""Most keys in one DeleteObjects call; a limit of S3."""

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_UNCONDITIONAL = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})

T = TypeVar("T")


class Store:
    """A bucket and a prefix. Every key handed in or out is relative to the prefix.

    Raises StoreUnreachable when the server cannot be reached or is out of order, and StoreRefused
    when it says no; both name its address without credentials.
    """

    def __init__(self, settings: Settings, at_once: int | None = None) -> None:
        """at_once: how many calls may be under way, of all threads together; None: any number."""
        self.settings = settings
        self._gate = nullcontext() if at_once is None else BoundedSemaphore(at_once)
        self._clients: dict[tuple[int, float, str | None], S3Client] = {}
        self._making = Lock()

    def get(self, key: str, most: int = LARGEST_RECORD) -> bytes | None:
        """The bytes under a key, or None where there is nothing.

        Raises InvalidRequest, before they are read, where they are more than ``most``.
        """
        return self._get(lambda: self._quick, key, most)

    def get_large(self, key: str, most: int | None = None) -> bytes | None:
        """As ``get``, for objects that may take longer than a moment to send."""
        return self._get(lambda: self._bulk, key, most)

    def get_verified(self, key: str, sha256: str) -> bytes:
        """The bytes under a key, or ArtifactDamaged where they are missing or others."""
        content = self.get_large(key)
        if content is None:
            raise ArtifactDamaged(f"{key} is missing from the store; submit again with force=True.")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ArtifactDamaged(
                f"{key} is not what the result names (SHA-256 differs); submit again with "
                "force=True.",
                expected=sha256,
            )
        return content

    def presigned(
        self, key: str, content_type: str, seconds: int, endpoint: str | None = None
    ) -> str:
        """A URL by which anybody can read a key for some seconds: path style, signature version 4.

        endpoint: the server's address for those who get it, where it is another than ours.
        """
        asked = {
            "Bucket": self.settings.bucket,
            "Key": self._full(key),
            "ResponseContentType": content_type,
            "ResponseCacheControl": "no-store",
        }
        return self._call(
            lambda: self._client(QUICK_READ_TIMEOUT, endpoint).generate_presigned_url(
                "get_object", Params=asked, ExpiresIn=seconds
            )
        )

    def put(self, key: str, content: bytes, content_type: str = "application/json") -> None:
        """Write bytes, over whatever was there."""
        timeout = QUICK_READ_TIMEOUT
        while timeout < QUICK_READ_TIMEOUT + len(content) // BYTES_A_SECOND:
            timeout *= 2  # in steps, because each makes a client
        self._call(
            lambda: self._client(timeout).put_object(
                Bucket=self.settings.bucket,
                Key=self._full(key),
                Body=content,
                ContentType=content_type,
            )
        )

    def put_conditionally(self, key: str, content: bytes) -> bool:
        """Write only where nothing is; False where the server found something there.

        A server that does not know the condition writes all the same: see ``first_writer``.
        """
        try:
            self._call(
                lambda: self._quick.put_object(
                    Bucket=self.settings.bucket,
                    Key=self._full(key),
                    Body=content,
                    ContentType="application/json",
                    IfNoneMatch="*",
                ),
                passed=_UNCONDITIONAL,
            )
        except _PassedError:
            return False
        return True

    @cached_property
    def conditional(self) -> bool:
        """Whether the server enforces conditional puts: asked once, with a throwaway key.

        StoreRefused where it forbids the probe: to go on with a lock then, beside others who rely
        on the condition, could let two writers win.
        """
        key = probe_key(self.settings.tenant, secrets.token_hex(8))
        try:
            self.put_conditionally(key, b"1")
            enforced = not self.put_conditionally(key, b"2")
        except StoreRefused as refusal:
            # Some servers answer "not implemented".
            if refusal.details.get("status") in (400, 501):
                return False
            raise StoreRefused(
                f"{refusal.message} It forbade the probe {key}: docs/security.md says who needs "
                "what.",
                **refusal.details,
            ) from None
        with suppress(StoreRefused):  # a byte too many is no reason to stop
            self.delete(key)
        return enforced

    def exists(self, key: str) -> bool:
        """Whether anything lies under a key."""
        try:
            self._call(
                lambda: self._quick.head_object(Bucket=self.settings.bucket, Key=self._full(key)),
                passed=_MISSING,
            )
        except _PassedError:
            return False
        return True

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin so, in order."""
        return sorted(self._call(lambda: self._keys(prefix)))

    def listing(self, prefix: str) -> Iterator[Entry]:
        """All objects whose keys begin so, a page at a time; in order, where the server is AWS."""
        for page in self._pages(prefix):
            yield from entries_of(page, self._cut)

    def folders(self) -> list[str]:
        """The first parts of all keys."""
        return [
            self._cut(folder["Prefix"]).removesuffix("/")
            for page in self._pages("", Delimiter="/")
            for folder in page.get("CommonPrefixes", [])
        ]

    def delete(self, *keys: str) -> None:
        """Delete keys; one that is not there is no error."""
        for start in range(0, len(keys), DELETE_BATCH):
            batch = keys[start : start + DELETE_BATCH]
            for key in batch if len(batch) == 1 else ():
                self._call(
                    lambda key=key: self._quick.delete_object(  # type: ignore[misc]
                        Bucket=self.settings.bucket, Key=self._full(key)
                    )
                )
            if len(batch) > 1:
                self._call(lambda batch=batch: self._delete_many(batch))  # type: ignore[misc]

    def close(self) -> None:
        """Give back the connections; a later call opens new ones."""
        with self._making:
            clients = list(self._clients.values())
        for client in clients:
            client.close()

    def _delete_many(self, keys: Sequence[str]) -> None:
        from botocore.exceptions import ClientError

        objects: Any = [{"Key": self._full(key)} for key in keys]
        answer = self._bulk.delete_objects(
            Bucket=self.settings.bucket, Delete={"Objects": objects, "Quiet": True}
        )
        # Of single keys it is told so, in an answer that otherwise says that all went well.
        for error in answer.get("Errors", []):
            status = 403 if error.get("Code") == "AccessDenied" else 500
            told: Any = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(told, "DeleteObjects")

    def _get(self, client: Callable[[], S3Client], key: str, most: int | None) -> bytes | None:
        def read() -> bytes:
            # Made in here: a profile that is not there fails as the client is made.
            answer = client().get_object(Bucket=self.settings.bucket, Key=self._full(key))
            if most is not None and answer["ContentLength"] > most:
                answer["Body"].close()
                raise InvalidRequest(
                    f"{key} has {answer['ContentLength']} bytes, and at most {most} are read: it "
                    "is no record of medgemma-explainer's."
                )
            return answer["Body"].read()

        try:
            return self._call(read, passed=_MISSING)
        except _PassedError:
            return None

    def _keys(self, prefix: str) -> list[str]:
        pages = self._quick.get_paginator("list_objects_v2").paginate(
            Bucket=self.settings.bucket, Prefix=self._full(prefix)
        )
        return [self._cut(item["Key"]) for page in pages for item in page.get("Contents", [])]

    def _pages(self, prefix: str, **options: Any) -> Iterator[Any]:
        asked = {"Bucket": self.settings.bucket, "Prefix": self._full(prefix), **options}
        while True:
            # A full page of a large bucket takes longer than a small record.
            page: Any = self._call(lambda: self._bulk.list_objects_v2(**asked))
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _full(self, key: str) -> str:
        return self.settings.prefix + key

    def _cut(self, key: str) -> str:
        return key[len(self.settings.prefix) :]

    def _call(self, action: Callable[[], T], passed: frozenset[str] = frozenset()) -> T:
        """Run a call; its failure becomes an error of ours, or _PassedError for a code that was
        expected."""
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from urllib3.exceptions import HTTPError

        try:
            with self._gate:
                return action()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in passed:
                raise _PassedError from None
            raise refusal(self.settings, error.response, code) from None
        except HTTPClientError as error:
            # botocore wraps whatever is raised in the middle of a call, also by a signal's handler:
            # a job that is cancelled there, or late, is no trouble of the store's.
            inner = error.kwargs.get("error")
            transport = (OSError, HTTPException, BotoCoreError, HTTPError)
            if isinstance(inner, Exception) and not isinstance(inner, transport):
                raise inner from None
            raise failure(self.settings, error) from None
        except (BotoCoreError, HTTPError) as error:
            raise failure(self.settings, error) from None

    @property
    def _quick(self) -> S3Client:
        return self._client(QUICK_READ_TIMEOUT)

    @property
    def _bulk(self) -> S3Client:
        return self._client(BULK_READ_TIMEOUT)

    @cached_property
    def _session(self) -> Any:
        import boto3

        return boto3.session.Session(region_name=self.settings.s3_region)

    def _client(self, read_timeout: float, endpoint: str | None = None) -> S3Client:
        with self._making:  # a session is not made for threads, a client is
            # A process that was forked would send, and read, over the connections of the first.
            kind = os.getpid(), read_timeout, endpoint
            if kind not in self._clients:
                self._clients[kind] = make_client(self._session, self.settings, *kind[1:])
            return self._clients[kind]


class _PassedError(Exception):
    """A code that the caller of ``_call`` expected."""
