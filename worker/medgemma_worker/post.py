"""A worker's post: what one has in common with those that its supervisor starts in its place.

A name is not enough: that of a device and its host is the same in the next supervisor, and a
process id is in the next container.
"""

from __future__ import annotations

from collections.abc import Mapping

POST = "MEDGEMMA_POST"
"""The variable by which a supervisor gives a worker its post. No setting: nobody else sets it."""


def post_of(environment: Mapping[str, str], otherwise: str) -> str:
    """The post of a worker; ``otherwise`` that of one that was started alone."""
    return environment.get(POST) or otherwise
