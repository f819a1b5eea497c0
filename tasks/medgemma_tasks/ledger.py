"""What lies in the store, in the order that makes it trustworthy.

An input's pixels come before its note, inputs before the request, the request before its message,
artifacts before the mark. So whatever is named is there, and a failure in between leaves at most
objects that nothing names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from itertools import count
from typing import Literal, TypeVar

from pydantic import BaseModel, Field

from medgemma_tasks import layout
from medgemma_tasks.errors import ArtifactDamaged, InvalidRequest, RunNotFound, ServiceError
from medgemma_tasks.first_writer import FirstWriter
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import (
    Artifact,
    ExplanationRecord,
    ExplanationRequest,
    ImageRef,
    ManifestLine,
    ServedModel,
    Sha256,
    State,
    Strict,
)
from medgemma_tasks.store import LARGEST_RECORD, Store
from medgemma_tasks.versions import read_record, read_request

LARGEST_REQUEST = 8 * 2**20
"""Bytes of ``request.json``, and of what workers say they hold. The largest text part has 0.4 MB
(0.6 where all of it is escaped), an image's attributes half a kilobyte."""

UPLOADS_AT_ONCE = 4
"""Artifacts of one job that are written beside each other."""

MANIFEST_BYTES = 100_000_000
"""Most bytes of a run's manifest, which is held in memory: some 500,000 jobs."""

M = TypeVar("M", bound=BaseModel)


class InputNote(Strict):
    """``inputs/<name>.json``: written after the pixels, so it says that they are all there."""

    schema_version: Literal[1] = 1
    name: Sha256
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    mode: Literal["L", "RGB"]


class Ledger:
    """One tenant's part of the store, and the models that are served."""

    def __init__(self, store: Store, live: LiveState) -> None:
        self.store = store
        self.tenant = live.tenant
        self.first_writer = FirstWriter(store, live)

    # --- models --------------------------------------------------------------------------------

    def served_model(self, name: str) -> ServedModel | None:
        """What the workers of a model said they hold, or None where none ever did."""
        return self._read(layout.model_key(name), ServedModel.model_validate_json, LARGEST_REQUEST)

    def served_models(self) -> list[str]:
        """The names of all models that workers ever published."""
        names = (layout.model_name(key) for key in self.store.keys(layout.MODELS))
        return [name for name in names if name is not None]

    def publish_model(self, served: ServedModel) -> None:
        """Say what this worker holds; clients put it into their job ids."""
        self.store.put(layout.model_key(served.name), _json(served))

    # --- inputs and requests -------------------------------------------------------------------

    def put_input(self, ref: ImageRef, png: bytes, *, anew: bool = False) -> None:
        """Upload an image, unless it is there already; ``anew``: over whatever is there."""
        keys = [layout.input_key(self.tenant, ref.name, suffix) for suffix in ("png", "json")]
        if not anew and all(self.store.exists(key) for key in keys):
            return
        png_key, note_key = keys
        self.store.put(png_key, png, "image/png")
        note = InputNote(name=ref.name, width=ref.width, height=ref.height, mode=ref.mode)
        self.store.put(note_key, _json(note))

    def input(self, name: str) -> bytes:
        """The PNG bytes of an input, or ArtifactDamaged where it is gone."""
        png = self.store.get_large(layout.input_key(self.tenant, name))
        if png is None:
            raise ArtifactDamaged("An input image is missing from the store; submit it again.")
        return png

    def put_request(self, request: ExplanationRequest) -> None:
        """Write a request, after all its inputs and before its message. See ``spell_request``."""
        key = layout.request_key(self.tenant, request.job_id)
        self.store.put(key, spell_request(request))

    def request(self, job_id: str) -> ExplanationRequest | None:
        """A request, or None where there is none; InvalidRequest where it cannot be read."""
        key = layout.request_key(self.tenant, job_id)
        return self._read(key, read_request, LARGEST_REQUEST)

    def has_request(self, job_id: str) -> bool:
        """Whether this job was ever submitted."""
        return self.store.exists(layout.request_key(self.tenant, job_id))

    def move_deadline(self, job_id: str, expires_at: datetime | None) -> None:
        """Give a submitted job this deadline, or none, where that is later than its own."""
        request = self.request(job_id)
        if request is None or request.expires_at is None:
            return
        if expires_at is None or expires_at > request.expires_at:
            self.put_request(request.model_copy(update={"expires_at": expires_at}))

    # --- runs ----------------------------------------------------------------------------------

    def put_manifest(
        self, run_id: str, lines: Iterable[ManifestLine], part: int | None = None
    ) -> None:
        """Say which jobs make a run, over whatever was said before. ``part``: its number from 0,
        where a manifest is written in several.

        InvalidRequest where it comes to more than MANIFEST_BYTES: split it into several.
        """
        content = "".join(line.model_dump_json() + "\n" for line in lines).encode()
        if len(content) > MANIFEST_BYTES:
            raise InvalidRequest(
                f"The manifest of a run takes {MANIFEST_BYTES:,} bytes at most, not "
                f"{len(content):,}; make several runs of it."
            )
        key = (
            layout.run_key(self.tenant, run_id)
            if part is None
            else layout.manifest_part_key(self.tenant, run_id, part)
        )
        self.store.put(key, content, "application/jsonl")

    def run_jobs(self, run_id: str) -> Iterator[str]:
        """The ids of a run's jobs, in its order. One manifest, or part of one, is held at a time.

        Raises RunNotFound, and InvalidRequest where a line cannot be read.
        """
        number = 0
        for content in self._manifests(run_id):
            for line in content.splitlines():
                number += 1
                try:
                    yield ManifestLine.model_validate_json(line).job
                except ValueError:
                    raise InvalidRequest(
                        f"Line {number} of the manifest of run {run_id} names no job of ours."
                    ) from None

    def _manifests(self, run_id: str) -> Iterator[bytes]:
        whole = self.store.get_large(layout.run_key(self.tenant, run_id), MANIFEST_BYTES)
        if whole is not None:
            yield whole
        for part in count():
            key = layout.manifest_part_key(self.tenant, run_id, part)
            content = self.store.get_large(key, MANIFEST_BYTES)
            if content is not None:
                yield content
            elif part or whole is not None:
                return
            else:
                raise RunNotFound(
                    f"There is no run {run_id} for tenant {self.tenant} in the store.",
                    run_id=run_id,
                )

    # --- results -------------------------------------------------------------------------------

    def record(self, job_id: str) -> ExplanationRecord | None:
        """The terminal mark of a job, or None while it has none; InvalidRequest where it cannot be
        read."""
        return self._read(layout.result_key(self.tenant, job_id), read_record, LARGEST_RECORD)

    def finished(self, job_id: str) -> bool:
        """Whether a job has its terminal mark."""
        return self.store.exists(layout.result_key(self.tenant, job_id))

    def put_artifacts(
        self, job_id: str, attempt: str, files: Mapping[str, tuple[bytes, str]]
    ) -> dict[str, Artifact]:
        """Write artifacts (content and content type by file name) under their attempt.

        All, or as far as the store lets us, none.
        """
        keys = {name: layout.artifact_key(self.tenant, job_id, attempt, name) for name in files}

        def put(item: tuple[str, tuple[bytes, str]]) -> tuple[str, Artifact]:
            name, (content, content_type) = item
            self.store.put(keys[name], content, content_type)
            return name, Artifact(
                key=f"{attempt}/{name}",
                sha256=hashlib.sha256(content).hexdigest(),
                size=len(content),
                content_type=content_type,
            )

        try:
            with ThreadPoolExecutor(UPLOADS_AT_ONCE, "upload") as pool:
                return dict(pool.map(put, files.items()))
        except Exception:
            with suppress(ServiceError):
                self.store.delete(*keys.values())
            raise

    def artifact(self, job_id: str, artifact: Artifact) -> bytes:
        """The bytes of an artifact, or ArtifactDamaged where they are not what the result names."""
        attempt, _, name = artifact.key.partition("/")
        key = layout.artifact_key(self.tenant, job_id, attempt, name)
        return self.store.get_verified(key, artifact.sha256)

    def artifact_urls(
        self, job_id: str, artifacts: Iterable[Artifact], seconds: int, endpoint: str | None = None
    ) -> list[str]:
        """As ``Store.presigned``, of each."""
        prefix = layout.job_prefix(self.tenant, job_id)
        keys = [(prefix + artifact.key, artifact.content_type) for artifact in artifacts]
        return [self.store.presigned(*key, seconds, endpoint) for key in keys]

    def discard(self, job_id: str, artifacts: Iterable[Artifact]) -> None:
        """Delete the artifacts of an attempt that lost."""
        prefix = layout.job_prefix(self.tenant, job_id)
        self.store.delete(*(prefix + artifact.key for artifact in artifacts))

    def holds(self, job_id: str, artifacts: Iterable[Artifact]) -> bool:
        """Whether all these artifacts are in the store, by their names."""
        prefix = layout.job_prefix(self.tenant, job_id)
        named = {prefix + artifact.key for artifact in artifacts}
        return not named or named <= {entry.key for entry in self.store.listing(prefix)}

    def discard_others(self, job_id: str, artifacts: Iterable[Artifact]) -> int:
        """Delete what all attempts stored, but for these artifacts; how many objects went.

        Only once the job has its mark: until then a worker that stands still may come back, and
        commit what it stored.
        """
        prefix = layout.job_prefix(self.tenant, job_id)
        named = {prefix + artifact.key for artifact in artifacts}
        others = [
            entry.key
            for entry in self.store.listing(prefix)
            if layout.is_artifact(entry.key) and entry.key not in named
        ]
        self.store.delete(*others)
        return len(others)

    def commit(self, record: ExplanationRecord) -> bool:
        """Write THE terminal mark; False where another writer was first.

        Raises InvalidRequest for one that would be too large to be read again.
        """
        key = layout.result_key(self.tenant, record.job_id)
        return self.first_writer.put(key, _json(record, "result", LARGEST_RECORD))

    def holding(self, job_id: str) -> AbstractContextManager[None]:
        """Wait for the lock on a job's mark, and hold it: one at a time puts a job back."""
        return self.first_writer.live.holding(layout.result_key(self.tenant, job_id))

    def archive(self, seen: ExplanationRecord) -> bool:
        """Move a terminal mark to the job's history, so that the job can run again.

        False, and nothing is done, where it succeeded, or is no longer the one that was seen.
        S3 cannot delete on a condition: be ``holding`` the mark when you look at it.
        """
        if seen.state is State.SUCCEEDED or self.record(seen.job_id) != seen:
            return False
        mark = _json(seen)
        # By its content: one that broke off between the two calls can be done again.
        name = f"{seen.finished_at:%Y%m%dT%H%M%S}-{hashlib.sha256(mark).hexdigest()[:16]}"
        self.store.put(layout.history_key(self.tenant, seen.job_id, name), mark)
        self.store.delete(layout.result_key(self.tenant, seen.job_id))
        return True

    def _read(self, key: str, read: Callable[[bytes], M], most: int) -> M | None:
        content = self.store.get(key, most)
        if content is None:
            return None
        try:
            return read(content)
        except ValueError:  # of which pydantic's is one
            # The validation message would quote the content.
            raise InvalidRequest(
                f"{key} cannot be read by this version of medgemma-explainer; was it written by a "
                "newer one?"
            ) from None


def spell_request(request: ExplanationRequest) -> bytes:
    """``request.json``. Raises InvalidRequest for one larger than any reader takes."""
    return _json(request, "request", LARGEST_REQUEST)


def _json(model: BaseModel, what: str = "record", most: int = LARGEST_RECORD) -> bytes:
    content = model.model_dump_json().encode()
    if len(content) > most:
        raise InvalidRequest(
            f"The {what} has {len(content)} bytes, and {most} is the limit. Ask with less text, or "
            "for fewer targets."
        )
    return content
