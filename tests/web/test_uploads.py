"""What of bodies is held in memory, and for how long."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

import pytest

from medgemma_client.errors import InvalidRequest
from medgemma_web.settings import WebSettings
from medgemma_web.uploads import Uploads


class File:
    """The bytes of one."""


def refused(held: list[weakref.ref[File]]) -> None:
    file = File()
    held.append(weakref.ref(file))
    try:
        raise ValueError("no image")
    except ValueError:
        raise InvalidRequest("The file is no image.") from None


def decoded(held: list[weakref.ref[File]]) -> None:
    file = File()
    held.append(weakref.ref(file))
    raise ValueError("no image")


def chained(held: list[weakref.ref[File]]) -> None:
    try:
        decoded(held)
    except ValueError:
        raise InvalidRequest("The file is no image.") from None


def going_round(held: list[weakref.ref[File]]) -> None:
    refusal = InvalidRequest("The file is no image.")
    refusal.__context__ = ValueError("no image")
    refusal.__context__.__context__ = refusal
    file = File()
    held.append(weakref.ref(file))
    raise refusal


@pytest.mark.parametrize("read", [refused, chained, going_round])
def test_what_was_read_is_let_go_before_the_next_is_read_although_its_error_is_still_to_be_told(
    read: Callable[[list[weakref.ref[File]]], None],
) -> None:
    held: list[weakref.ref[File]] = []

    async def ask(uploads: Uploads) -> None:
        async with uploads.in_memory(1):
            await asyncio.to_thread(read, held)

    with pytest.raises(InvalidRequest) as told:
        asyncio.run(ask(Uploads(WebSettings(), max_images=1)))
    assert told.value.message == "The file is no image."
    assert [file() for file in held] == [None]
