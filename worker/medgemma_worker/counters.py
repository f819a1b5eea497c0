"""What a worker counts for whoever watches it, in a page of memory that outlives its processes.

The child counts, and a supervisor tells Prometheus; between them stand the worker's parent, which
must not serve HTTP (it forks, and a thread that holds a lock would be copied with it), and deaths.
So a supervisor makes one page for each device, a file without a name, whose descriptor it hands to
every worker that it starts there. Nothing travels: a count is there as soon as it was made, it
stays when a child or a whole worker is killed, and the page goes when the last process does.
(prometheus_client's own way for several processes leaves files in a folder for each pid, which a
killed supervisor would leave behind.)

One process writes at a time, its threads one after another; readers may be any.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

STAGES = (*("waiting", "loading", "generating", "explaining", "measuring", "rendering", "storing"),)
"""Of which the seconds are counted; see ``ExplanationRecord.seconds``."""

BOUNDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Seconds at which the histogram of a stage is cut."""

ENDS = 256
"""Pairs of state and code that are told apart; the tree of errors has fewer than half as many."""


class _End(ctypes.Structure):
    _fields_ = (
        ("state", ctypes.c_char * 16),
        ("code", ctypes.c_char * 64),
        ("jobs", ctypes.c_uint64),
    )


class _Stage(ctypes.Structure):
    _fields_ = (
        ("jobs", ctypes.c_uint64 * (len(BOUNDS) + 1)),  # by the first bound that is not below
        ("seconds", ctypes.c_double),
    )


class _Page(ctypes.Structure):
    _fields_ = (
        ("ends", _End * ENDS),
        ("used_ends", ctypes.c_uint64),
        ("stages", _Stage * len(STAGES)),
        ("answer_tokens", ctypes.c_uint64),
        ("busy", ctypes.c_double),
        ("load", ctypes.c_double),
        ("memory_used", ctypes.c_uint64),
        ("memory_peak", ctypes.c_uint64),
        ("memory_total", ctypes.c_uint64),
    )


@dataclass(frozen=True)
class StageCount:
    """The histogram of one stage."""

    jobs: tuple[int, ...]
    """For each of BOUNDS, and one for all beyond them: jobs that took so long and not less."""
    seconds: float
    """Of all of them."""


class Counters:
    """The page. It begins at zero, and only ever rises but for what says otherwise."""

    def __init__(self, file: int | None = None) -> None:
        """A page of this process and its children; or that of a descriptor, which stays open."""
        self._memory = mmap.mmap(-1 if file is None else file, ctypes.sizeof(_Page))
        self._page = _Page.from_buffer(self._memory)
        self._rows: dict[tuple[str, str], int] = {}
        self._writing = threading.Lock()

    @classmethod
    def shared(cls) -> tuple[Self, int]:
        """A page, and the descriptor of its file, for processes that are yet to be started."""
        file = _file_without_name()
        os.ftruncate(file, ctypes.sizeof(_Page))
        return cls(file), file

    # --- the child writes ----------------------------------------------------------------------

    def job(self, state: str, code: str, seconds: Mapping[str, float], answer_tokens: int) -> None:
        """A job has its mark. seconds: by stage; of others than STAGES none are kept."""
        with self._writing:
            self._page.ends[self._row(state, code)].jobs += 1
            self._page.answer_tokens += answer_tokens
            for stage, count in zip(STAGES, self._page.stages, strict=True):
                if stage in seconds:
                    count.jobs[sum(bound < seconds[stage] for bound in BOUNDS)] += 1
                    count.seconds += seconds[stage]

    def worked(self, seconds: float) -> None:
        """The device has ended a step."""
        self._page.busy += seconds

    def loaded(self, seconds: float) -> None:
        """The model was loaded. Not a sum: the last load counts."""
        self._page.load = seconds

    def note_memory(self, used: int, peak: int, total: int) -> None:
        """Bytes of the device; see ``medgemma_worker.memory.of_device``."""
        page = self._page
        page.memory_used, page.memory_peak, page.memory_total = used, peak, total

    # --- whoever watches reads -----------------------------------------------------------------

    @property
    def jobs(self) -> dict[tuple[str, str], int]:
        """Jobs that got their marks here, by state and code (empty where a job succeeded)."""
        return {
            (end.state.decode(), end.code.decode()): int(end.jobs)
            for end in self._page.ends[: self._page.used_ends]
        }

    @property
    def stages(self) -> dict[str, StageCount]:
        """The seconds of each stage, of the jobs that came so far."""
        return {
            stage: StageCount(tuple(map(int, count.jobs)), float(count.seconds))
            for stage, count in zip(STAGES, self._page.stages, strict=True)
        }

    @property
    def answer_tokens(self) -> int:
        """Tokens of the answers that were generated, and stored."""
        return int(self._page.answer_tokens)

    @property
    def busy(self) -> float:
        """Seconds in which the device worked."""
        return float(self._page.busy)

    @property
    def load(self) -> float | None:
        """Seconds that the last load of the model took; None before the first was over."""
        return float(self._page.load) or None

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of the device: ``used``, ``peak`` and ``total``; nothing before they are known."""
        page = self._page
        if not page.memory_total:
            return {}
        return {"used": page.memory_used, "peak": page.memory_peak, "total": page.memory_total}

    def _row(self, state: str, code: str) -> int:
        """Where jobs that end so are counted. The last row takes what finds none."""
        page, pair = self._page, (state, code)
        if pair not in self._rows:
            known = [(end.state.decode(), end.code.decode()) for end in page.ends[: page.used_ends]]
            if pair not in known and len(known) < ENDS:
                row = page.ends[len(known)]
                row.state, row.code = state.encode()[:15], code.encode()[:63]
                page.used_ends += 1  # last: whoever reads meanwhile sees no half row
                known.append(pair)
            self._rows[pair] = known.index(pair) if pair in known else ENDS - 1
        return self._rows[pair]


def _file_without_name() -> int:
    """A descriptor, which children get only where it is handed to them."""
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    return os.memfd_create("medgemma-counters")
