from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from medgemma_tasks.errors import (
    EmptyAnswer,
    JobCancelled,
    JobTimeLimit,
    MedGemmaError,
    OutOfMemory,
)
from medgemma_tasks.models import Stage
from medgemma_worker import device as module
from medgemma_worker.batching import Batching
from medgemma_worker.board import Board
from medgemma_worker.device import MARGIN, Device, Wanted
from medgemma_worker.engine import Tell, TellBatch
from medgemma_worker.wrappers.cancellation import STOP
from medgemma_worker.wrappers.run import Run
from tests.parts import JOB, OTHER_JOB, request_for


class Engine:
    """Answers a question with its own text in capitals; what a step does can be set."""

    def __init__(self) -> None:
        self.together = 1
        self.batches: list[list[str]] = []
        self.within: Callable[[TellBatch | Tell], object] = lambda tell: None
        self.room = 100

    def length(self, asked: str) -> int:
        return 10

    def weight(self, answered: str) -> int:
        return 1

    def answer(self, asked: Sequence[str], tell: TellBatch) -> list[Any]:
        self.batches.append(list(asked))
        if len(asked) > self.room:
            raise OutOfMemory("too many")
        self.within(tell)
        dropped = set(tell([1.0] * len(asked)))
        return [
            JobCancelled("dropped") if place in dropped else _answer(text)
            for place, text in enumerate(asked)
        ]

    def explain(self, answered: Sequence[str], tell: Tell) -> list[str]:
        self.batches.append(list(answered))
        if len(answered) > self.room:
            raise OutOfMemory("too many")
        self.within(tell)
        tell(0.5)
        return [f"{one} explained" for one in answered]


def _answer(text: str) -> str | MedGemmaError:
    return EmptyAnswer("nothing said") if text == "empty" else text.upper()


class Handed:
    """A device, and jobs that hand in steps from threads of their own."""

    def __init__(self) -> None:
        self.engine: Any = Engine()
        self.board = Board()
        self.device = Device(self.engine, self.board, 1e9)
        self.pool = ThreadPoolExecutor(16)
        self.reports: list[tuple[str, Stage, float]] = []

    def run(self, job_id: str = JOB) -> Run:
        run = Run(request_for().model_copy(update={"job_id": job_id}), None)  # type: ignore[arg-type]
        run.hearers.append(lambda stage, done: self.reports.append((job_id, stage, done)))
        return run

    def asks(self, text: str, run: Run | None = None) -> Future[Any]:
        waiting = len(self.device.answering)
        future = self.pool.submit(self.device.answer, run or self.run(), text)
        self.until(lambda: len(self.device.answering) > waiting)
        return future

    def explains(self, run: Run | None = None) -> Future[Any]:
        future = self.pool.submit(self.device.explain, run or self.run(), "ANSWER")
        self.until(lambda: bool(self.device.explaining))
        return future

    def answers(self, count: int | None = None) -> None:
        self.device.answer_next(self.device.answering[:count])

    @staticmethod
    def until(true: Callable[[], bool]) -> None:
        while not true():
            time.sleep(0.001)


@pytest.fixture
def handed() -> Iterator[Handed]:
    handed = Handed()
    yield handed
    handed.device.drop(KeyError())
    handed.pool.shutdown()


def test_those_that_wait_are_answered_together_and_each_gets_its_own(handed: Handed) -> None:
    futures = [handed.asks(text) for text in ("one", "two", "three")]
    handed.answers()
    assert [future.result(30) for future in futures] == ["ONE", "TWO", "THREE"]
    assert handed.engine.batches == [["one", "two", "three"]]


def test_ones_error_is_its_own(handed: Handed) -> None:
    good, bad = handed.asks("one"), handed.asks("empty")
    handed.answers()
    assert good.result(30) == "ONE"
    with pytest.raises(EmptyAnswer):
        bad.result(30)


def test_what_goes_wrong_for_a_whole_batch_is_the_error_of_each(handed: Handed) -> None:
    def crash(tell: object) -> None:
        raise ValueError

    handed.engine.within = crash
    futures = [handed.asks(text) for text in ("one", "two")]
    handed.answers()
    for future in futures:
        with pytest.raises(ValueError):
            future.result(30)


def test_a_batch_that_does_not_fit_waits_again_and_is_halved(handed: Handed) -> None:
    handed.engine.room = 2
    futures = [handed.asks(str(number)) for number in range(8)]
    while handed.device.answering:
        handed.device.answer_next(handed.device.answered_together(handed.device.answering))
    assert [future.result(30) for future in futures] == list("01234567")
    assert list(map(len, handed.engine.batches)) == [8, 4, 2, 2, 2, 2]


def test_one_that_does_not_fit_by_itself_has_failed(handed: Handed) -> None:
    handed.engine.room = 0
    future = handed.asks("one")
    handed.answers()
    with pytest.raises(OutOfMemory):
        future.result(30)


def test_a_job_that_is_no_longer_wanted_leaves_the_line_at_once(
    handed: Handed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINE_PAUSE", 0.01)
    run, other = handed.run(), handed.asks("two", handed.run(OTHER_JOB))
    future = handed.pool.submit(handed.device.answer, run, "one")
    handed.until(lambda: len(handed.device.answering) == 2)

    def cancelled(stage: Stage, progress: float) -> None:
        raise JobCancelled("no longer wanted")

    run.hearers.append(cancelled)
    with pytest.raises(JobCancelled):
        future.result(30)
    handed.answers()
    assert other.result(30) == "TWO"
    assert handed.engine.batches == [["two"]]


@pytest.mark.parametrize("stage", [Stage.GENERATING, Stage.EXPLAINING])
def test_a_job_that_gives_up_right_before_its_step_leaves_the_others_theirs(
    handed: Handed, monkeypatch: pytest.MonkeyPatch, stage: Stage
) -> None:
    """Who has the device has chosen both by then."""
    monkeypatch.setattr(module, "LINE_PAUSE", 0.01)
    device, chosen, run = handed.device, threading.Event(), handed.run(OTHER_JOB)
    answers = stage is Stage.GENERATING
    line = device.answering if answers else device.explaining

    def hear(*said: object) -> None:
        if chosen.is_set():
            raise JobCancelled("not wanted")

    run.hearers.append(hear)
    step: Any = device.answer if answers else device.explain
    futures = [handed.pool.submit(step, whose, "one") for whose in (run, handed.run())]
    handed.until(lambda: len(line) == 2)
    batch = [*line]
    chosen.set()
    handed.until(lambda: len(line) == 1)
    for _ in range(2):  # the second time none is left
        (device.answer_next if answers else device.explain_next)(batch)
    assert isinstance(futures[0].exception(), JobCancelled)
    assert futures[1].result() == ("ONE" if answers else "one explained")
    assert handed.engine.batches == [["one"]]


def test_of_several_answered_together_the_one_no_longer_wanted_stops_alone(
    handed: Handed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPORT_PAUSE", 0.01)
    run = handed.run()
    futures = [handed.asks("one", run), handed.asks("two", handed.run(OTHER_JOB))]

    def cancelled(stage: Stage, progress: float) -> None:
        raise JobCancelled("no longer wanted")

    def within(tell: TellBatch) -> None:
        run.hearers.append(cancelled)
        handed.until(lambda: list(tell([0.5, 0.5])) == [0])

    handed.engine.within = within
    handed.answers()
    with pytest.raises(JobCancelled, match="no longer wanted"):
        futures[0].result(30)
    assert futures[1].result(30) == "TWO"


def test_a_job_tells_how_far_its_step_is(handed: Handed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_PAUSE", 0.01)
    future = handed.explains()

    def within(tell: Tell) -> None:
        tell(0.25)
        handed.until(lambda: (JOB, Stage.EXPLAINING, 0.25) in handed.reports)

    handed.engine.within = within
    handed.device.explain_next(handed.device.explaining[:1])
    assert future.result(30) == "ANSWER explained"
    assert handed.reports[0] == (JOB, Stage.EXPLAINING, 0.0)


def test_a_step_that_hears_of_its_end_in_the_middle_ends_there(
    handed: Handed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPORT_PAUSE", 0.01)
    run = handed.run()
    future = handed.explains(run)

    def cancelled(stage: Stage, progress: float) -> None:
        raise JobCancelled("no longer wanted")

    def within(tell: Tell) -> None:
        run.hearers.append(cancelled)
        while True:
            tell(0.5)

    handed.engine.within = within
    handed.device.explain_next(handed.device.explaining[:1])
    with pytest.raises(JobCancelled):
        future.result(30)


@pytest.fixture
def stop(handed: Handed) -> Iterator[Callable[[str], None]]:
    before = signal.signal(STOP, lambda *_: handed.device.hear_stop())

    def send(job_id: str) -> None:
        handed.board.stop(job_id)
        os.kill(os.getpid(), STOP)

    yield send
    signal.signal(STOP, before)


def test_the_signal_ends_the_explanation_of_the_job_that_the_board_names(
    handed: Handed, stop: Callable[[str], None]
) -> None:
    future = handed.explains()

    def within(tell: Tell) -> None:
        stop(JOB)
        raise KeyError("it was not stopped")

    handed.engine.within = within
    handed.device.explain_next(handed.device.explaining[:1])
    with pytest.raises(JobCancelled):
        future.result(30)
    assert handed.board.heard == JOB
    os.kill(os.getpid(), STOP)  # between steps it ends nothing


def test_the_signal_ends_no_other_job(handed: Handed, stop: Callable[[str], None]) -> None:
    future = handed.explains()
    handed.engine.within = lambda tell: stop(OTHER_JOB)
    handed.device.explain_next(handed.device.explaining[:1])
    assert future.result(30) == "ANSWER explained"


def test_the_signal_takes_one_of_several_out_and_the_others_go_on(
    handed: Handed, stop: Callable[[str], None]
) -> None:
    futures = [handed.asks("one"), handed.asks("two", handed.run(OTHER_JOB))]
    handed.engine.within = lambda tell: stop(JOB)
    handed.answers()
    with pytest.raises(JobCancelled):
        futures[0].result(30)
    assert futures[1].result(30) == "TWO"


def explaining(*texts: str, together: int = 4) -> tuple[Handed, list[Future[Any]]]:
    """Some that wait to be explained, on a device that has learnt to take so many together."""
    handed = Handed()
    handed.engine.together = together
    handed.device = Device(handed.engine, handed.board, 1e9)
    handed.device.explanations = Batching(1e9, first=together, largest=together)
    futures = []
    for place, text in enumerate(texts):
        run = handed.run(JOB if place == 0 else OTHER_JOB)
        futures.append(handed.pool.submit(handed.device.explain, run, text))
        handed.until(lambda: len(handed.device.explaining) == len(futures))
    return handed, futures


def explain_all(handed: Handed) -> None:
    while handed.device.explaining:
        handed.device.explain_next(handed.device.explained_together(handed.device.explaining))


def test_answers_are_explained_together_and_each_gets_its_own() -> None:
    handed, futures = explaining("one", "two", "three", "four", "five")
    explain_all(handed)
    assert [f.result(30) for f in futures] == [
        f"{text} explained" for text in ("one", "two", "three", "four", "five")
    ]
    assert list(map(len, handed.engine.batches)) == [4, 1]


def test_no_answer_fails_for_another_that_is_explained_with_it() -> None:
    handed, futures = explaining("one", "bad", "three")

    def within(tell: Tell) -> None:
        if "bad" in handed.engine.batches[-1]:
            raise EmptyAnswer("nothing to explain")

    handed.engine.within = within
    explain_all(handed)
    assert futures[0].result(30) == "one explained"
    assert futures[2].result(30) == "three explained"
    with pytest.raises(EmptyAnswer):
        futures[1].result(30)
    assert list(map(len, handed.engine.batches)) == [3, 1, 1, 1]


def test_explanations_that_do_not_fit_together_are_halved() -> None:
    handed, futures = explaining("one", "two", "three", "four")
    handed.engine.room = 1
    explain_all(handed)
    assert len([future.result(30) for future in futures]) == 4
    assert list(map(len, handed.engine.batches)) == [4, 2, 1, 1, 1, 1]


def test_a_shard_that_is_late_ends_with_all_that_are_explained_together() -> None:
    handed, futures = explaining("one", "two")

    def within(tell: Tell) -> None:
        raise SoftTimeLimitExceeded

    handed.engine.within = within
    explain_all(handed)
    for future in futures:
        with pytest.raises(SoftTimeLimitExceeded):
            future.result(30)
    assert len(handed.engine.batches) == 1


def test_one_that_is_cancelled_among_several_leaves_the_others_theirexplanations() -> None:
    handed, futures = explaining("one", "two")
    before = signal.signal(STOP, lambda *_: handed.device.hear_stop())

    def within(tell: Tell) -> None:
        handed.board.stop(JOB)
        os.kill(os.getpid(), STOP)

    handed.engine.within = within
    try:
        explain_all(handed)
    finally:
        signal.signal(STOP, before)
    with pytest.raises(JobCancelled):
        futures[0].result(30)
    assert futures[1].result(30) == "two explained"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_step_that_takes_too_long_ends_and_no_other(handed: Handed, clock: list[float]) -> None:
    future = handed.explains()

    def late(tell: Tell) -> None:
        handed.device.end_if_late(10.0)
        clock[0] += 10.0 + MARGIN + 0.1
        handed.device.end_if_late(10.0)
        raise KeyError("it was not ended")

    handed.engine.within = late
    handed.device.explain_next(handed.device.explaining[:1])
    with pytest.raises(JobTimeLimit):
        future.result(30)
    clock[0] += 100.0
    handed.device.end_if_late(10.0)  # between steps it ends nothing


def test_a_batch_that_takes_too_long_is_halved_before_anyone_is_blamed(
    handed: Handed, clock: list[float]
) -> None:
    futures = [handed.asks(text) for text in ("one", "two")]

    def late(tell: TellBatch) -> None:
        if len(handed.engine.batches[-1]) > 1:
            clock[0] += 10.0 + MARGIN + 0.1
            handed.device.end_if_late(10.0)

    handed.engine.within = late
    while handed.device.answering:
        handed.device.answer_next(handed.device.answered_together(handed.device.answering))
    assert [future.result(30) for future in futures] == ["ONE", "TWO"]


def test_while_a_step_runs_the_board_says_since_when(handed: Handed) -> None:
    future = handed.explains()
    handed.engine.within = lambda tell: seen.append(handed.board.step)
    seen: list[float] = []
    handed.device.explain_next(handed.device.explaining[:1])
    future.result(30)
    assert seen[0] > 0
    assert handed.board.step == 0.0
    assert handed.device.busy > 0


def test_the_first_end_of_a_step_counts() -> None:
    wanted = Wanted(None, Stage.GENERATING, "one")  # type: ignore[arg-type]
    wanted.end("first")
    wanted.end(error=KeyError())
    assert wanted.outcome() == "first"


def test_what_one_job_adds_to_the_trace_of_a_common_error_is_not_told_of_another(
    handed: Handed,
) -> None:
    """Else the log of a batch that fails would grow with its square."""
    batch = [Wanted(handed.run(), Stage.GENERATING, "one") for _ in range(2)]
    try:
        raise KeyError
    except KeyError as error:
        module._end(batch, error)
    traces = []
    for wanted in batch:
        with pytest.raises(KeyError) as raised:
            wanted.outcome()
        traces.append([frame.name for frame in traceback.extract_tb(raised.value.__traceback__)])
    here = "test_what_one_job_adds_to_the_trace_of_a_common_error_is_not_told_of_another"
    assert traces == 2 * [[here, "outcome", here]]
