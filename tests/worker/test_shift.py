from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from medgemma_tasks.errors import JobTimeLimit, StoreUnreachable
from medgemma_tasks.queue import Shard
from medgemma_worker import shift as module
from medgemma_worker.board import Board
from medgemma_worker.delivery import PAUSE, Delivery
from medgemma_worker.device import Device
from medgemma_worker.engine import Tell, TellBatch
from medgemma_worker.shift import FETCHING, FIRST_FETCHING, Guest, Shift
from medgemma_worker.wrappers.run import Run
from tests.parts import request_for


def job(number: int) -> str:
    return f"{number:032x}"


class Engine:
    """Keeps what it did; ``within`` runs at each explanation."""

    def __init__(self) -> None:
        self.together = 1
        self.did: list[tuple[str, ...]] = []
        self.within: Callable[[str], object] = lambda job_id: None

    def length(self, asked: str) -> int:
        return 10

    def weight(self, answered: str) -> int:
        return 1

    def answer(self, asked: Sequence[str], tell: TellBatch) -> list[str]:
        self.did.append(("answer", *asked))
        tell([1.0] * len(asked))
        return list(asked)

    def explain(self, answered: Sequence[str], tell: Tell) -> Sequence[str]:
        self.did.append(("explain", *answered))
        for job_id in answered:
            self.within(job_id)
        return answered


class Jobs:
    """Runs a job as the worker's runner does, with no more around it than the device."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.before: dict[str, Callable[[], object]] = {}
        self.ended: dict[str, BaseException | None] = {}

    def died(self, job_id: str) -> bool:
        return False

    def finished(self, job_id: str) -> bool:
        return job_id in self.ended

    def run(self, job_id: str) -> None:
        try:
            self.before.get(job_id, lambda: None)()
            run = Run(request_for().model_copy(update={"job_id": job_id}), None)  # type: ignore[arg-type]
            self.device.explain(run, self.device.answer(run, job_id))
        except StoreUnreachable:
            raise
        except Exception as error:  # noqa: BLE001 - a mark would say it
            self.ended[job_id] = error
        else:
            self.ended[job_id] = None


class Here:
    """A device with its shift, and guests that come when they are told to."""

    def __init__(self) -> None:
        self.engine: Any = Engine()
        self.device = Device(self.engine, Board(), 1e9)
        self.jobs = Jobs(self.device)
        self.pool = ThreadPoolExecutor(64)
        self.guests: list[Visiting] = []
        self.draining = False
        self.shift = Shift(
            self.device,
            self.pool,
            draining=lambda: self.draining,
            next_guest=lambda: self.guests.pop(0) if self.guests else None,
        )

    def delivery(self, *numbers: int) -> Delivery:
        shard = Shard(schema=1, tenant="local", jobs=tuple(map(job, numbers)))
        return Delivery(shard, self.jobs, lambda job_id: None)

    def serve(self, *numbers: int) -> Delivery:
        delivery = self.delivery(*numbers)
        self.shift.serve(delivery)
        return delivery

    @property
    def explained(self) -> list[str]:
        return [did[1] for did in self.engine.did if did[0] == "explain"]


class Visiting:
    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.left = False

    def leave(self) -> None:
        self.left = True


@pytest.fixture
def here() -> Iterator[Here]:
    here = Here()
    yield here
    here.pool.shutdown()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a thread may come late that is not slow by itself: all are waited for."""
    for name in ("GATHERING", "NEWCOMER", "COURTESY"):
        monkeypatch.setattr(module, name, 60.0)


@pytest.mark.usefixtures("patient")
def test_a_shard_is_answered_together_and_each_of_its_jobs_explained(here: Here) -> None:
    delivery = here.serve(1, 2, 3, 4)
    answered = [did[1:] for did in here.engine.did if did[0] == "answer"]
    assert [sorted(batch) for batch in answered] == [[job(1), job(2), job(3), job(4)]]
    assert sorted(here.explained) == [job(1), job(2), job(3), job(4)]
    assert here.jobs.ended == dict.fromkeys(map(job, (1, 2, 3, 4)))
    assert not delivery.pauses


def test_of_a_large_shard_no_more_threads_are_open_than_two_batches_need(here: Here) -> None:
    most = [0]
    delivery = here.delivery(*range(100))
    here.engine.within = lambda job_id: most.append(len(delivery.open))
    here.shift.serve(delivery)
    assert len(here.jobs.ended) == 100
    assert max(most) <= 2 * here.device.batching.advised + 16 < 100


def test_a_job_that_is_named_twice_runs_once(here: Here) -> None:
    here.serve(1, 1, 2)
    assert sorted(here.explained) == [job(1), job(2)]


def test_a_job_that_ends_while_the_open_ones_are_counted_does_no_harm(here: Here) -> None:
    ends, has_explained = threading.Event(), here.device.has_explained
    delivery = here.delivery(1, 2)

    def end() -> None:
        ends.wait(30)
        raise KeyError

    def looked(job_id: str) -> bool:
        if not ends.is_set() and job(2) in delivery.open:
            ends.set()
            while job(1) in delivery.open:
                time.sleep(0.001)
        return has_explained(job_id)

    here.jobs.before[job(1)], here.device.has_explained = end, looked  # type: ignore[method-assign]
    here.shift.serve(delivery)
    assert here.jobs.ended.keys() == {job(1), job(2)}
    assert isinstance(here.jobs.ended[job(1)], KeyError)
    assert here.jobs.ended[job(2)] is None


def test_one_that_is_slow_to_fetch_holds_the_others_up_for_a_moment_only(here: Here) -> None:
    fetched = threading.Event()

    def slowly() -> None:
        assert fetched.wait(30), "it was waited for"

    def explained(job_id: str) -> None:
        if len(here.explained) == 2:
            fetched.set()

    here.jobs.before[job(1)], here.engine.within = slowly, explained
    here.serve(1, 2, 3)
    assert len(here.explained) == 3
    assert here.explained[-1] == job(1)


def test_few_fetch_at_once_so_that_the_first_is_soon_ready(here: Here) -> None:
    fetching, seen, guard = [0], [], threading.Lock()

    def fetch(number: int) -> None:
        with guard:
            fetching[0] += 1
            # Who ended, once the first were answered, has asked no longer.
            asked = any(map(here.device.has_asked, map(job, range(12))))
            seen.append((fetching[0], asked or bool(here.engine.did)))
        time.sleep(0.01)
        with guard:
            fetching[0] -= 1

    for number in range(12):
        here.jobs.before[job(number)] = partial(fetch, number)
    here.serve(*range(12))
    assert len(seen) == len(here.jobs.ended) == 12
    assert max(at_once for at_once, begun in seen if not begun) <= FIRST_FETCHING
    assert max(at_once for at_once, _ in seen) <= FETCHING


def test_those_that_fetch_are_waited_for_only_while_they_come(here: Here) -> None:
    explained = threading.Event()

    def slowly() -> None:
        assert explained.wait(30), "it was waited for"

    here.jobs.before[job(2)] = slowly
    here.engine.within = lambda job_id: explained.set()
    here.serve(1, 2)
    assert [did for did in here.engine.did if did[0] == "answer"] == [
        ("answer", job(1)),
        ("answer", job(2)),
    ]


def test_a_part_that_is_away_for_one_job_brings_the_message_back(here: Here) -> None:
    def away() -> None:
        raise StoreUnreachable("away")

    here.jobs.before[job(2)] = away
    delivery = here.serve(1, 2, 3)
    assert delivery.pauses == [PAUSE]
    assert here.jobs.ended.keys() == {job(1), job(3)}


def test_a_worker_told_to_stop_begins_no_further_job(here: Here) -> None:
    def stop(job_id: str) -> None:
        here.draining = True

    here.engine.within = stop
    delivery = here.serve(*range(100))
    assert 0 < len(here.jobs.ended) < 100
    assert delivery.pauses == [0.0]


@pytest.mark.usefixtures("patient")
def test_a_guest_comes_in_between_two_steps_and_goes_first(here: Here) -> None:
    guest = Visiting(here.delivery(9))

    def arrives(job_id: str) -> None:
        if len(here.explained) == 2:
            here.guests.append(guest)

    here.engine.within = arrives
    here.serve(1, 2, 3, 4, 5, 6)
    assert here.explained.index(job(9)) == 2
    assert guest.left
    assert len(here.jobs.ended) == 7


@pytest.mark.usefixtures("patient")
def test_the_device_waits_a_moment_for_a_guest_that_fetches(here: Here) -> None:
    guest = Visiting(here.delivery(9))
    here.jobs.before[job(9)] = lambda: threading.Event().wait(0.2)
    here.engine.within = lambda job_id: (
        here.guests.append(guest) if len(here.explained) == 1 else None
    )
    here.serve(1, 2, 3, 4)
    assert here.explained.index(job(9)) == 1


def test_a_guest_that_asks_what_the_shard_asks_waits_for_it(here: Here) -> None:
    guest = Visiting(here.delivery(3))
    ran: list[str] = []
    here.engine.within = lambda job_id: (
        here.guests.append(guest) if len(here.explained) == 1 else None
    )
    for number in (1, 2, 3):
        here.jobs.before[job(number)] = lambda number=number: ran.append(job(number))
    here.serve(1, 2, 3)
    assert guest.left
    # One after the other: the runner passes over what has its mark.
    assert sorted(ran) == [job(1), job(2), job(3), job(3)]


def test_no_guest_is_let_in_by_a_worker_told_to_stop(here: Here) -> None:
    guest: Guest = Visiting(here.delivery(9))
    here.guests.append(guest)  # type: ignore[arg-type]
    here.draining = True
    here.serve(1)
    assert here.guests == [guest]


def test_a_limit_that_falls_between_two_steps_ends_what_waits_for_one(here: Here) -> None:
    raised = [False]

    def late() -> bool:
        if here.device.answering and not raised[0]:
            raised[0] = True
            raise SoftTimeLimitExceeded
        return False

    here.shift._draining = late
    here.serve(1)
    assert isinstance(here.jobs.ended[job(1)], JobTimeLimit)
