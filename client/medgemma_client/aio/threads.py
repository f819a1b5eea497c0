"""Where the calls of an asynchronous client run: a few threads of its own, and no more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from threading import Lock
from typing import ParamSpec, TypeVar

AT_ONCE = 16
"""Calls of one client that run at the same time; the others wait for their turn. Nearly all of a
call is waiting for Redis or the store."""

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Made at the first call, and again at the first one after ``close``, or in a process that was
    forked: threads stay behind there."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._making = Lock()

    async def run(self, action: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """What the action gives or raises. Cancelled, it is not begun, or nobody waits for it."""
        return await asyncio.wrap_future(self._begin(partial(action, *args, **options)))

    async def close(self, last: Callable[[], None]) -> None:
        """Wait for the calls that run, end the threads, and do what is to be done last."""
        with self._making:
            pool, self._pool = self._there(), None

        def end() -> None:
            if pool is not None:
                pool.shutdown()
            last()

        closer = ThreadPoolExecutor(1, "medgemma-close")
        closing = asyncio.get_running_loop().run_in_executor(closer, end)
        closer.shutdown(wait=False)
        await closing

    def _begin(self, action: Callable[[], T]) -> Future[T]:
        with self._making:
            self._pool = self._there() or ThreadPoolExecutor(AT_ONCE, "medgemma")
            self._process = os.getpid()
            # With the caller's context, as asyncio.to_thread does it: traces hang on that.
            return self._pool.submit(copy_context().run, action)

    def _there(self) -> ThreadPoolExecutor | None:
        return self._pool if self._process == os.getpid() else None
