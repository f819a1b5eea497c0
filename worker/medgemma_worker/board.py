"""What a worker's parent and its child tell each other, in a page of memory that both see.

The child says what it does, and its main thread that it is alive; the parent, which job to stop. A
page needs no connection, and it stays when the child is killed: what is found on it then is what
was known of the death. Each field is written by one of the two, but for the jobs, which the parent
clears when its child is dead.
"""

from __future__ import annotations

import ctypes
import mmap
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from medgemma_tasks.models import Stage
from medgemma_worker.counters import Counters
from medgemma_worker.places import MOST_GUESTS, PLACES, Hosted, InHand, Place, read


class _Page(ctypes.Structure):
    _fields_ = (
        # --- by the child
        ("pid", ctypes.c_int64),
        ("loads", ctypes.c_uint32),
        ("ready", ctypes.c_bool),
        ("failed", ctypes.c_bool),
        ("busy", ctypes.c_bool),
        ("beat", ctypes.c_double),
        ("done", ctypes.c_uint64),
        ("used", ctypes.c_uint32),
        ("places", Place * PLACES),
        ("step", ctypes.c_double),
        ("heard", ctypes.c_char * 33),
        ("rate", ctypes.c_double),
        ("advised", ctypes.c_uint32),
        # --- by the parent
        ("stop", ctypes.c_char * 33),
        ("draining", ctypes.c_bool),
        ("memory", ctypes.c_uint64),
        ("polled", ctypes.c_double),
        ("bulk_first", ctypes.c_bool),
        ("taken_out", ctypes.c_bool),
        ("emptied", ctypes.c_bool),
        # --- by the child, of a guest
        ("guest", ctypes.c_char * 37),
        ("guest_pid", ctypes.c_int64),
        ("guest_jobs", ctypes.c_char * (33 * MOST_GUESTS)),
    )


class Board:
    """The page. Make it before the fork; times are of the monotonic clock, which all share."""

    def __init__(self, counters: Counters | None = None) -> None:
        self.counters = counters or Counters()
        """What the child counts, for whoever watches; it may outlive this page."""
        self._memory = mmap.mmap(-1, ctypes.sizeof(_Page))
        self._page = _Page.from_buffer(self._memory)
        self._places: dict[str, int] = {}
        self._writing = threading.Lock()  # of the child's threads; the parent only reads
        self.owner = secrets.token_hex(8)
        """The name of this worker, parent and children, among all who run jobs."""

    # --- the child writes ----------------------------------------------------------------------

    def begin_loading(self, pid: int) -> None:
        """A child begins. Of its predecessor's last job the page keeps what was known."""
        page = self._page
        page.ready, page.busy = False, False  # first: nobody is to signal it for its predecessor
        page.step = 0.0
        page.pid = pid
        page.loads += 1

    def loaded(self) -> None:
        """The model is there, and jobs can come."""
        self._page.loads, self._page.ready = 0, True
        self.beat()

    def fail(self) -> None:
        """The model cannot be loaded."""
        self._page.failed = True

    def beat(self) -> None:
        """The child's main thread lives."""
        self._page.beat = time.monotonic()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around a shard."""
        self._page.busy = True
        try:
            yield
        finally:
            self._page.busy = False
            self.beat()

    @contextmanager
    def holding(self, held: InHand) -> Iterator[None]:
        """Around a job that was started. A child that dies within leaves it standing here."""
        page = self._page
        with self._writing:
            taken = set(self._places.values())
            number = next(n for n in range(PLACES) if n not in taken)
            place = page.places[number]
            place.job = b""  # so that nobody reads half of one and half of another
            place.tenant, place.attempt = held.tenant.encode(), held.attempt
            place.token, place.stage = held.token.encode(), b""
            place.job = held.job_id.encode()
            self._places[held.job_id] = number
            page.used = max(page.used, number + 1)
        try:
            yield
        finally:
            with self._writing:
                place.job = b""
                self._places.pop(held.job_id, None)
                page.used = max(self._places.values(), default=-1) + 1
                page.done += 1

    def note_stage(self, job_id: str, stage: Stage) -> None:
        """How far a job in hand is."""
        number = self._places.get(job_id)
        if number is not None:
            self._page.places[number].stage = stage.value.encode()

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Around one step of the device."""
        self._page.step = time.monotonic()
        try:
            yield
        finally:
            self._page.step = 0.0

    def hear(self, job_id: str) -> None:
        """The child knows that this job is to end: it need not be killed for it."""
        self._page.heard = job_id.encode()

    def note_speed(self, rate: float, advised: int) -> None:
        """Jobs a second of late, and how many were best answered together."""
        self._page.rate, self._page.advised = rate, advised

    # --- the parent writes ---------------------------------------------------------------------

    def stop(self, job_id: str) -> None:
        """Name the job that is to be ended, before the child is told by a signal."""
        self._page.stop = job_id.encode()

    def note_memory(self, peak: int) -> None:
        """The most memory that the child had so far, in bytes; 0 where it has died, and what was
        known of it stays."""
        self._page.memory = peak or self._page.memory

    def note_poll(self) -> None:
        """The queue was asked for work, and answered."""
        self._page.polled = time.monotonic()

    def clear(self, jobs: Sequence[InHand]) -> None:
        """What was known of a dead child's jobs is written down elsewhere."""
        page = self._page
        for place in page.places:
            if place.job and read(place) in jobs:
                place.job = b""
        page.memory = 0

    def drain(self) -> None:
        """No further job is to be begun: the worker was told to stop."""
        self._page.draining = True

    # --- both read -----------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Of the child, or 0."""
        return int(self._page.pid)

    @property
    def loads(self) -> int:
        """Children in a row that began to load and were never ready."""
        return int(self._page.loads)

    @property
    def ready(self) -> bool:
        """Whether the child has its model."""
        return bool(self._page.ready)

    @property
    def failed(self) -> bool:
        """Whether the child could not load its model."""
        return bool(self._page.failed)

    @property
    def busy(self) -> bool:
        """Whether the child has a shard in hand."""
        return bool(self._page.busy)

    @property
    def beaten(self) -> float:
        """When the child's main thread last said that it lives; 0.0 before it was ready."""
        return float(self._page.beat)

    @property
    def polled(self) -> float:
        """When the queue last answered this worker; 0.0 before it did."""
        return float(self._page.polled)

    @property
    def done(self) -> int:
        """Jobs that ended here, in whatever state."""
        return int(self._page.done)

    @property
    def in_hand(self) -> list[InHand]:
        """The jobs that the child works on, or died over."""
        places = self._page.places[: self._page.used]
        return [held for held in map(read, places) if held is not None]

    @property
    def step(self) -> float:
        """When the device began with its step, on the monotonic clock; 0.0 between two."""
        return float(self._page.step)

    @property
    def heard(self) -> str:
        """The job of which the child last heard that it is to end."""
        return bytes(self._page.heard).decode()

    @property
    def draining(self) -> bool:
        """Whether no further job is to be begun."""
        return bool(self._page.draining)

    @property
    def rate(self) -> float:
        """Jobs a second of late; 0.0 before the first."""
        return float(self._page.rate)

    @property
    def advised(self) -> int:
        """How many jobs were best answered together, of late; 0 before that is known."""
        return int(self._page.advised)

    @property
    def stopping(self) -> str:
        """The job that is to be ended, or nothing."""
        return bytes(self._page.stop).decode()

    @property
    def memory(self) -> int:
        """The most memory that the child was seen with, in bytes."""
        return int(self._page.memory)

    # --- a guest of the child's, and which queue goes first --------------------------------------

    @contextmanager
    def hosting(self, tag: str, jobs: Sequence[str]) -> Iterator[None]:
        """Around a message that the child took by itself. The parent renews its lease."""
        page = self._page
        page.guest = b""  # so that nobody reads half of one and half of another
        page.guest_jobs, page.guest_pid = " ".join(jobs).encode(), page.pid
        page.guest = tag.encode()
        try:
            yield
        finally:
            page.guest = b""

    def clear_guest(self) -> None:
        """By the parent: the child's guest was given back."""
        self._page.guest = b""

    @property
    def guest(self) -> Hosted | None:
        """The message that a child took by itself, or died over."""
        page = self._page
        while True:
            tag, jobs, pid = bytes(page.guest), bytes(page.guest_jobs), int(page.guest_pid)
            if tag == bytes(page.guest):
                break
        return Hosted(tag.decode(), tuple(jobs.decode().split()), pid) if tag else None

    def put_bulk_first(self, first: bool) -> None:
        """By the parent: whether this worker serves the batch queue first, and takes no guests."""
        self._page.bulk_first = first

    @property
    def bulk_first(self) -> bool:
        """Whether this worker serves the batch queue first. Its child takes no guests then."""
        return bool(self._page.bulk_first)

    # --- whether it takes messages ---------------------------------------------------------------

    def take_out(self, out: bool) -> None:
        """By the parent: whether no further message is to be taken, neither by it nor as a guest.
        What is in hand goes on."""
        self._page.taken_out = out

    def note_emptied(self, emptied: bool) -> None:
        """By the parent: whether the worker was taken out, and holds nothing any more."""
        self._page.emptied = emptied

    @property
    def taken_out(self) -> bool:
        """Whether no further message is to be taken."""
        return bool(self._page.taken_out)

    @property
    def emptied(self) -> bool:
        """Whether the worker was taken out, and holds nothing any more."""
        return bool(self._page.emptied)
