"""Write a key once: of several writers, the first wins and the others learn that they lost."""

from __future__ import annotations

from medgemma_tasks.live import LiveState
from medgemma_tasks.store import Store


class FirstWriter:
    """``put`` writes where nothing is, atomically, on whatever the store can do.

    Where the server enforces ``If-None-Match: *`` (AWS, SeaweedFS) the store decides
    alone. Elsewhere (rclone, found by a probe with a throwaway key) a lock in Redis guards a second
    look and the write. NOT guaranteed there: one winner when Redis loses its keys, or when a writer
    stalls for more than LOCK_SECONDS between its look and its write. Use a server with conditional
    puts for real work.
    """

    def __init__(self, store: Store, live: LiveState) -> None:
        self.store = store
        self.live = live

    def put(self, key: str, content: bytes) -> bool:
        """True where ``content`` now lies under ``key`` because of us.

        ``content`` must be unlike any other writer's: that is how a writer whose first try went
        through, but whose answer was lost on the way, recognises its own work.
        """
        if not self.store.conditional:
            return self._put_locked(key, content)
        return self.store.put_conditionally(key, content) or self.store.get(key) == content

    def _put_locked(self, key: str, content: bytes) -> bool:
        with self.live.holding(key):
            if self.store.exists(key):
                return self.store.get(key) == content
            self.store.put(key, content)
            return True
