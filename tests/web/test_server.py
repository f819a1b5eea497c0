"""The process of the gateway."""

from __future__ import annotations

import asyncio
import gc

import pytest
import uvicorn

from medgemma_web.server import _Server


def test_what_is_there_at_the_start_is_not_gone_through_in_later_collections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def listening(server: uvicorn.Server, sockets: object = None) -> None:
        assert not gc.get_freeze_count(), "not before the parts were made"

    monkeypatch.setattr(uvicorn.Server, "startup", listening)
    server = _Server(uvicorn.Config("none:none"), stop=lambda: None)
    try:
        asyncio.run(server.startup())
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
