"""What is done to which part, and when: it follows from the seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

VISIBILITY_TIMEOUT = 5
"""Seconds. Short, so that what a dead worker held is another's soon."""

FIRST = 2.0
"""Seconds before the first fault."""

REDIS, S3 = "redis", "s3"


@dataclass(frozen=True)
class Fault:
    """One thing that is done to one part. ``at`` and ``seconds`` are seconds: from the beginning,
    and until it is undone. ``level``: how bad, 0..1, where that means something to its kind."""

    part: str
    kind: str
    at: float
    seconds: float
    level: float = 0.0

    def __str__(self) -> str:
        return f"{self.part} {self.kind} for {self.seconds:.1f} s"


Range = tuple[float, float]

OF_A_WORKER: dict[str, Range] = {
    "child killed": (0.0, 0.0),
    "killed": (0.3, 2.0),  # until the supervisor starts another
    # Longer than the visibility timeout, and under the 20 s that a lock of 30 s allows for.
    "stopped": (VISIBILITY_TIMEOUT + 1.0, VISIBILITY_TIMEOUT + 7.0),
    "parent stopped": (VISIBILITY_TIMEOUT + 1.0, VISIBILITY_TIMEOUT + 7.0),  # its child goes on
    "stopped, then killed": (VISIBILITY_TIMEOUT + 1.0, VISIBILITY_TIMEOUT + 7.0),
    "told to end": (15.0, 20.0),  # until it is killed, if it has not ended
    "reconciler killed": (0.0, 0.0),
    "drained": (1.0, 8.0),
    "drained, then told to end": (17.0, 22.0),
}
_OF_A_LONE_ONE = ("reconciler killed",)
OF_A_SUPERVISOR: dict[str, Range] = {
    # The same, where "parent" is the supervisor, and all else is the supervisor with all of its.
    **{kind: lasts for kind, lasts in OF_A_WORKER.items() if kind not in _OF_A_LONE_ONE},
    "leader killed": (0.0, 0.0),  # a device's Celery parent, whose child is left to the supervisor
    "parent killed": (0.3, 2.0),  # alone; the next one starts while its workers end
    "parent stopped, leader killed": (VISIBILITY_TIMEOUT + 1.0, VISIBILITY_TIMEOUT + 7.0),
    "told to end twice": (15.0, 20.0),
    "told to end, then parent killed": (1.0, 3.0),
    "does not load": (32.0, 40.0),  # one device, until it is given up
}
OF_REDIS: dict[str, Range] = {
    "reset": (0.0, 0.0),
    "killed": (0.3, 3.0),
    "hanging": (0.5, 4.0),
    "flushed": (0.0, 0.0),
}
OF_S3: dict[str, Range] = {
    "killed": (0.3, 4.0),
    "slow": (3.0, 8.0),
    "busy": (2.0, 6.0),
    "busy for marks": (2.0, 6.0),
    "hanging": (1.0, 5.0),
    "reset": (0.0, 0.0),
}


def worker_name(number: int) -> str:
    return f"worker-{number}"


def supervisor_name(number: int) -> str:
    return f"supervisor-{number}"


def plan(seed: int, seconds: float, workers: int, supervisors: bool = False) -> list[Fault]:
    """All faults of so many seconds, in order of their times; ``supervisors``: workers are such.

    Of one part only one thing is wrong at a time; of several parts anything may be.
    """
    pause = min(12.0, seconds / 10)
    parts = {REDIS: OF_REDIS, S3: OF_S3} | (
        {supervisor_name(n): OF_A_SUPERVISOR for n in range(workers)}
        if supervisors
        else {worker_name(n): OF_A_WORKER for n in range(workers)}
    )
    faults: list[Fault] = []
    for part, kinds in parts.items():
        # A stream of its own: another part's faults do not shift these.
        faults += _of_a_part(Random(f"{seed} {part}"), part, kinds, seconds, pause)
    return sorted(faults, key=lambda fault: fault.at)


def _of_a_part(
    random: Random, part: str, kinds: dict[str, Range], seconds: float, pause: float
) -> Iterator[Fault]:
    at, deck = FIRST, _deck(random, list(kinds))
    while True:
        at += random.uniform(0.2, 1.8) * pause
        kind = deck()
        lasts = random.uniform(*kinds[kind])
        if at + lasts > seconds:
            return
        yield Fault(part, kind, at, lasts, random.random())
        at += lasts


def _deck(random: Random, kinds: list[str]) -> Callable[[], str]:
    """Draws one kind after the other; none comes again before all have come."""
    left: list[str] = []

    def draw() -> str:
        if not left:
            left.extend(random.sample(kinds, len(kinds)))
        return left.pop()

    return draw
