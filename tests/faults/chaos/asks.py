"""What is asked, when, and what each job must come to: it follows from the seed alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random

from medgemma_tasks.models import State

SHARE_IN_SHARDS = 0.25
LARGEST_SHARD = 32


class Kind(Enum):
    """How a job behaves. The value is how many of a thousand jobs do; the rest are quick."""

    POISON = 2
    CRASH = 20
    CRASH_AGAIN = 10
    """Asked again once it has failed: its mark goes into the history, and it fails once more."""
    CANCELLED = 30
    CANCELLED_AGAIN = 11
    """Asked again once it is cancelled: it may succeed."""
    QUICK_AGAIN = 21
    """Asked twice: it is one job all the same."""
    SLEEP = 300
    QUICK = 0

    @property
    def alone(self) -> bool:
        """Whether something is still done with it after it was asked, by its client."""
        return self.name.endswith("AGAIN") or self is Kind.CANCELLED


@dataclass(frozen=True)
class Ask:
    """One question. ``later``: seconds until its client comes back to it, to cancel or ask again"""

    kind: Kind
    prompt: str
    later: float


@dataclass(frozen=True)
class Batch:
    """Questions that are asked together, ``at`` seconds from the beginning: one by the client, or
    a shard as one message."""

    at: float
    asks: tuple[Ask, ...]
    shard: bool


@dataclass
class Asked:
    """A job that a client was told of."""

    job_id: str
    ask: Ask
    put_back: bool = False
    """Asked again after it had ended without success."""
    cancelled: bool | None = None
    """What the call said that cancelled it: whether it did."""

    @property
    def ends(self) -> set[tuple[State, str | None]]:
        """What it may come to: state and code of its error."""
        succeeded, cancelled = (State.SUCCEEDED, None), (State.CANCELLED, "job_cancelled")
        match self.ask.kind:
            case Kind.POISON:
                return {(State.FAILED, "worker_lost")}
            case Kind.CRASH | Kind.CRASH_AGAIN:
                return {(State.FAILED, "internal_error")}
            case Kind.CANCELLED if self.cancelled:
                return {cancelled}
            case Kind.CANCELLED_AGAIN if self.cancelled:
                # A worker that heard of it late may commit that after the job was put back.
                return {succeeded, cancelled}
        return {succeeded}


def questions(seed: int, seconds: float, jobs: int) -> list[Batch]:
    """So many jobs, spread over so many seconds, in order of their times."""
    random = Random(f"{seed} jobs")
    asks = [_ask(random, kind, number) for number, kind in enumerate(_kinds(random, jobs))]
    batches = [
        Batch(random.uniform(0.0, seconds), tuple(together), shard)
        for together, shard in _together(random, asks)
    ]
    return sorted(batches, key=lambda batch: batch.at)


def _kinds(random: Random, jobs: int) -> list[Kind]:
    """At least one of each, where there are jobs enough."""
    kinds = [
        kind for kind in Kind for _ in range(max(1, jobs * kind.value // 1000) if kind.value else 0)
    ]
    kinds = (kinds + [Kind.QUICK] * jobs)[:jobs]
    random.shuffle(kinds)
    return kinds


def _ask(random: Random, kind: Kind, number: int) -> Ask:
    does = {
        Kind.POISON: "die",
        Kind.CRASH: "crash",
        Kind.CRASH_AGAIN: "crash",
        Kind.CANCELLED: "sleep 2",
        Kind.CANCELLED_AGAIN: "sleep 1",
        Kind.SLEEP: f"sleep {random.uniform(0.2, 1.2):.2f}",
    }
    return Ask(kind, f"{does.get(kind, 'quick')} of {number}", random.uniform(0.0, 4.0))


def _together(random: Random, asks: list[Ask]) -> Iterator[tuple[list[Ask], bool]]:
    left, in_shards = deque(asks), int(len(asks) * SHARE_IN_SHARDS)
    while in_shards > 0 and left:
        size = min(random.randint(2, LARGEST_SHARD), in_shards)
        shard: list[Ask] = []
        for _ in range(len(left)):
            if len(shard) == size:
                break
            ask = left.popleft()
            if ask.kind.alone:
                left.append(ask)
            else:
                shard.append(ask)
        if not shard:
            break
        in_shards -= len(shard)
        yield shard, True
    for ask in left:
        yield [ask], False
