"""The parts without servers, for these tests."""

from __future__ import annotations

from tests.parts import ledger, live, redis_fake, settings, store

__all__ = ["ledger", "live", "redis_fake", "settings", "store"]
