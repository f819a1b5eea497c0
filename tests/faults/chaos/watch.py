"""Reads each mark as soon as the proxy saw it stored, straight from the store: it must stay so."""

from __future__ import annotations

import hashlib
import threading
from types import TracebackType
from typing import Self

from medgemma_tasks.errors import ServiceError
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.faults.s3_proxy import S3Proxy

LOOK = 0.5
"""Seconds between two looks at the proxy's record."""

MARK = "/result.json"


class Watch:
    """A context: it watches in a thread of its own."""

    def __init__(self, proxy: S3Proxy, straight: Settings) -> None:
        self._proxy = proxy
        self._store = Store(straight)
        self._start = f"/{straight.bucket}/{straight.prefix}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: dict[str, set[str]] = {}
        """The hashes of what was read under each mark's key, relative to the store's prefix."""

    @property
    def marks(self) -> int:
        """How many jobs had a mark, at whatever time."""
        return len(self.seen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        read = 0
        while not self._stop.wait(LOOK):
            for put in self._proxy.puts[read:]:
                if put.stored and put.path.endswith(MARK) and not self._read(put.path):
                    break  # the store is away; this one is read at the next look
                read += 1

    def _read(self, path: str) -> bool:
        key = path.removeprefix(self._start)
        try:
            content = self._store.get(key)
        except ServiceError:
            return False
        if content is not None:  # it may be in the history by now
            self.seen.setdefault(key, set()).add(hashlib.sha256(content).hexdigest())
        return True
