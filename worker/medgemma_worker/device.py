"""The device, one step at a time: some answers together, or some explanations.

It belongs to the child's main thread, where signals arrive, so that a step can be ended from
outside. Jobs have threads of their own, in which they fetch, paint and store; there they hand a
step in, and wait. While they wait they tell how far they are, and hear whether they were cancelled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from medgemma_tasks.errors import JobCancelled, JobTimeLimit, MedGemmaError, OutOfMemory
from medgemma_tasks.models import Stage
from medgemma_worker import memory
from medgemma_worker.batching import Batching
from medgemma_worker.board import Board
from medgemma_worker.engine import Answered, Engine, Found, Prepared
from medgemma_worker.failures import TOO_LONG
from medgemma_worker.wrappers.run import Run

REPORT_PAUSE = 0.5
"""Seconds between two words of a job whose step runs."""

LINE_PAUSE = 2.0
"""The same while it waits for the device."""

MARGIN = 2.0
"""Seconds by which a job's limit is longer than Celery's, which is for the whole message: of a
message with one job Celery's comes first, and of a shard it is the sum."""


class Wanted:
    """A step that a job waits for."""

    def __init__(self, run: Run, stage: Stage, given: Any) -> None:
        self.run = run
        self.stage = stage
        self.given = given
        self.progress = 0.0
        self.running = False
        self.since = time.monotonic()
        self.alone = False
        """Whether it is to be taken by itself, since something went wrong among others."""
        self.unwanted: BaseException | None = None
        """Why it is to end, once somebody said so."""
        self.stirred = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        self._where: TracebackType | None = None
        """Where the error came from."""
        self._done = False

    @property
    def done(self) -> bool:
        return self._done

    def begin(self) -> None:
        self.running = True
        self.stirred.set()

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """Let its job go on; the first end counts."""
        if not self._done:
            self._where = None if error is None else error.__traceback__
            self._result, self._error, self._done = result, error, True
            self.stirred.set()

    def outcome(self) -> Any:
        if self._error is not None:
            # All of a batch may have the same one: each raise adds to what those before it added.
            raise self._error.with_traceback(self._where)
        return self._result


def _end(batch: Sequence[Wanted], error: BaseException) -> None:
    """The same error for all, but where one has its own."""
    where = error.__traceback__
    for wanted in batch:
        wanted.end(error=wanted.unwanted or error.with_traceback(where))


class Device:
    """What runs on the device, and what waits for it."""

    def __init__(self, engine: Engine, board: Board, longest_step: float) -> None:
        self._engine = engine
        self._board = board
        self.batching = Batching(longest_step)
        """Of answers."""
        self.explanations = Batching(longest_step, first=1, largest=engine.together)
        """Of explanations: from one by one to as many as are a gain."""
        self.changed = threading.Condition()
        """Told when a step is handed in, and by whoever uses the device when a job ends."""
        self.answering: list[Wanted] = []
        """Wait to be answered, in the order in which they came."""
        self.explaining: list[Wanted] = []
        """Wait to be explained."""
        self.busy = 0.0
        """Seconds that it worked so far."""
        self._current: Sequence[Wanted] = ()
        self._since = 0.0
        self._asked: set[str] = set()
        self._explained: set[str] = set()

    # --- by a job's thread ---------------------------------------------------------------------

    def answer(self, run: Run, prepared: Prepared) -> Answered:
        """Have a question answered, together with others. Raises what ``Engine.answer`` gives."""
        return self._have(self.answering, Wanted(run, Stage.GENERATING, prepared))

    def explain(self, run: Run, answered: Answered) -> Found:
        """Have an answer explained. Raises what ``Engine.explain`` does."""
        return self._have(self.explaining, Wanted(run, Stage.EXPLAINING, answered))

    def _have(self, line: list[Wanted], wanted: Wanted) -> Any:
        wanted.run.report(wanted.stage, 0.0)
        with self.changed:
            line.append(wanted)
            self._asked.add(wanted.run.job_id)
            self.changed.notify_all()
        while not wanted.done:
            if wanted.stirred.wait(REPORT_PAUSE if wanted.running else LINE_PAUSE):
                wanted.stirred.clear()
            elif wanted.unwanted is None:
                try:
                    wanted.run.report(wanted.stage, wanted.progress)
                except Exception as error:  # noqa: BLE001 - whatever it is ends this job alone
                    self._give_up(line, wanted, error)
        return wanted.outcome()

    def _give_up(self, line: list[Wanted], wanted: Wanted, error: Exception) -> None:
        """End a step: at once while it is in line, else as soon as the engine says a word."""
        with self.changed:
            wanted.unwanted = error
            if wanted in line:
                line.remove(wanted)
                wanted.end(error=error)
                self.changed.notify_all()

    # --- by the thread that has the device -----------------------------------------------------

    def answer_next(self, batch: Sequence[Wanted]) -> None:
        """Answer some of those that wait for it. Where they are too many at once, or take too long,
        they wait again, and fewer are taken from then on. Who gave up by now is left out."""
        began, batch = time.monotonic(), self._take(self.answering, batch)
        if not batch:
            return

        def tell(progress: Sequence[float]) -> Collection[int]:
            for wanted, fraction in zip(batch, progress, strict=True):
                wanted.progress = fraction
            return [place for place, wanted in enumerate(batch) if wanted.unwanted is not None]

        try:
            found = self._step(batch, lambda: self._engine.answer([w.given for w in batch], tell))
        except (OutOfMemory, JobTimeLimit, MemoryError) as error:
            self._too_many(self.answering, batch, self.batching, error)
        except Exception as error:  # noqa: BLE001 - every job has a mark to write
            _end(batch, error)
        else:
            lengths = [self._engine.length(wanted.given) for wanted in batch]
            used = [w.progress * length for w, length in zip(batch, lengths, strict=True)]
            self.batching.took(lengths, time.monotonic() - began, round(max(used)))
            for wanted, one in zip(batch, found, strict=True):
                failed = wanted.unwanted or (one if isinstance(one, MedGemmaError) else None)
                wanted.end(one, failed)

    def explain_next(self, batch: Sequence[Wanted]) -> None:
        """Explain some of those that wait for it. Where they are too many, fewer are taken from
        then on; what else goes wrong among several is tried again with each by itself, so that
        none fails for another. Who gave up by now is left out."""
        began, batch = time.monotonic(), self._take(self.explaining, batch)
        if not batch:
            return

        def tell(progress: float) -> None:
            for wanted in batch:
                wanted.progress = progress
            unwanted = [wanted.unwanted for wanted in batch if wanted.unwanted is not None]
            if len(unwanted) == len(batch):
                raise unwanted[0]

        try:
            found = self._step(batch, lambda: self._engine.explain([w.given for w in batch], tell))
        except (OutOfMemory, JobTimeLimit, MemoryError) as error:
            self._too_many(self.explaining, batch, self.explanations, error)
        except SoftTimeLimitExceeded as error:
            _end(batch, error)
        except Exception as error:  # noqa: BLE001 - every job has a mark to write
            if len(batch) == 1 or all(wanted.unwanted for wanted in batch):
                _end(batch, error)
            else:
                for wanted in batch:
                    wanted.alone = True
                self._again(self.explaining, batch)
        else:
            weights = [self._engine.weight(wanted.given) for wanted in batch]
            self.explanations.took(weights, time.monotonic() - began, max(weights))
            for wanted, one in zip(batch, found, strict=True):
                if wanted.unwanted is None:
                    self._explained.add(wanted.run.job_id)
                wanted.end(one, wanted.unwanted)

    def has_asked(self, job_id: str) -> bool:
        """Whether a job came as far as to hand in a step."""
        return job_id in self._asked

    def has_explained(self, job_id: str) -> bool:
        """Whether the device is done with a job."""
        return job_id in self._explained

    def forget(self, job_id: str) -> None:
        """A job has ended."""
        self._asked.discard(job_id)
        self._explained.discard(job_id)

    def answered_together(self, waiting: Sequence[Wanted]) -> Sequence[Wanted]:
        """The first of those that wait, as many as are to be answered together."""
        if not waiting:
            return ()
        lengths = [self._engine.length(wanted.given) for wanted in waiting]
        return waiting[: self.batching.fitting(lengths)]

    def explained_together(self, waiting: Sequence[Wanted]) -> Sequence[Wanted]:
        """The first of those that wait, as many as are to be explained together: at least one."""
        first = waiting[: self.explanations.advised]
        if any(wanted.alone for wanted in first):
            return first[:1]
        weights = [self._engine.weight(wanted.given) for wanted in first]
        return first[: self.explanations.fitting(weights)]

    def drop(self, error: Exception) -> None:
        """End all that wait."""
        with self.changed:
            for line in (self.answering, self.explaining):
                for wanted in line:
                    wanted.end(error=error)
                line.clear()

    def _take(self, line: list[Wanted], batch: Sequence[Wanted]) -> Sequence[Wanted]:
        """Out of the line: those of a batch that still wait, since it was chosen."""
        with self.changed:
            waiting = [wanted for wanted in batch if wanted in line]
            for wanted in waiting:
                line.remove(wanted)
                wanted.begin()
        return waiting

    def _too_many(
        self, line: list[Wanted], batch: Sequence[Wanted], batching: Batching, error: Exception
    ) -> None:
        """Fewer next time; one alone has failed."""
        if len(batch) == 1:
            batch[0].end(error=error)
            return
        batching.too_many(len(batch))
        self._again(line, batch)

    def _again(self, line: list[Wanted], batch: Sequence[Wanted]) -> None:
        """They wait again, before all others; but for those that nobody wants any more."""
        for wanted in batch:
            wanted.running = False
        with self.changed:
            line[:0] = [wanted for wanted in batch if not wanted.done]

    def _step(self, batch: Sequence[Wanted], action: Callable[[], Any]) -> Any:
        began = time.monotonic()
        with self._board.stepping():
            try:
                self._since, self._current = began, batch
                return action()
            finally:
                self._current = ()  # from here on no signal ends it
                seconds = time.monotonic() - began
                self.busy += seconds
                self._board.counters.worked(seconds)
                self._board.counters.note_memory(*memory.of_device())

    # --- by a signal, in that same thread ------------------------------------------------------

    def hear_stop(self) -> None:
        """End the job that the board names, wherever it is. One that has the device to itself ends
        in the middle of its step; one of several answered together stops at their next token."""
        job_id = self._board.stopping
        current = self._current
        self._board.hear(job_id)
        error = JobCancelled(f"Job {job_id} was cancelled while it ran.")
        for wanted in (*current, *tuple(self.answering), *tuple(self.explaining)):
            if wanted.run.job_id == job_id:
                wanted.unwanted = wanted.unwanted or error
                if len(current) == 1 and wanted is current[0]:
                    self._current = ()
                    raise error

    def end_if_late(self, limit: float) -> None:
        """Raise JobTimeLimit in a step that runs for longer than so many seconds."""
        if self._current and time.monotonic() > self._since + limit + MARGIN:
            self._current = ()
            raise JobTimeLimit(TOO_LONG)
