"""The parts without servers, for these tests."""

from __future__ import annotations

from tests.parts import boto_session, ledger, live, redis_fake, settings, store

__all__ = ["boto_session", "ledger", "live", "redis_fake", "settings", "store"]
