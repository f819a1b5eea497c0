"""What the board holds of a job in hand, and of a guest: as the parent reads it, and as it lies in
the memory that both see."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

PLACES = 320
"""Jobs that can be in hand at once: those of the largest shard, and of a guest beside it."""


@dataclass(frozen=True)
class InHand:
    """A job that a child works on."""

    tenant: str
    job_id: str
    attempt: int
    """From 1."""
    token: str = ""
    """By which the start can be uncounted."""
    stage: str | None = field(default=None, compare=False)
    """How far it is."""


class Place(ctypes.Structure):
    _fields_ = (
        ("tenant", ctypes.c_char * 64),
        ("job", ctypes.c_char * 33),
        ("attempt", ctypes.c_uint32),
        ("token", ctypes.c_char * 33),
        ("stage", ctypes.c_char * 16),
    )


MOST_GUESTS = 16
"""Jobs of a message that a child takes in the middle of a shard."""


@dataclass(frozen=True)
class Hosted:
    """A message that a child took by itself, in the middle of a shard."""

    tag: str
    """kombu's delivery tag."""
    jobs: tuple[str, ...]
    pid: int
    """Of that child."""


def read(place: Place) -> InHand | None:
    while True:
        job, tenant, token = bytes(place.job), bytes(place.tenant), bytes(place.token)
        attempt, stage = int(place.attempt), bytes(place.stage).decode() or None
        if job == bytes(place.job):
            break
    return InHand(tenant.decode(), job.decode(), attempt, token.decode(), stage) if job else None
