"""Doing the faults of the plan, each at its time, and undoing them."""

from __future__ import annotations

import heapq
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import count
from random import Random

from redis.exceptions import RedisError

from medgemma_tasks.models import WorkerState
from medgemma_tasks.orders import order
from medgemma_tasks.workers import workers
from medgemma_worker.exits import SOME_GIVEN_UP
from tests.faults.chaos.fleet import Fleet, Worker
from tests.faults.chaos.plan import REDIS, S3, Fault
from tests.faults.chaos.supervised import Supervised

LOOK = 1.0
"""Seconds between two looks whether a worker that was drained takes messages again."""

AGAIN = 0.5
"""Seconds after which one that was told to end is told again, or killed."""

ENDS = 20.0
"""Seconds that a supervisor has to end after it had given up a device."""

TWICE = (0, 1, -signal.SIGTERM)
"""The statuses of a supervisor that was told to end twice: its workers had ended by then, were
killed, or had ended and so had its own ear for signals."""

_TELLING = ("told to end", "parent killed", "does not load")
"""Kinds by which workers are told to end, by whomever."""

DRAINS = 2.0
"""Seconds for which a worker drains before it is told to end."""

Undo = Callable[[], None]


class Faults:
    """Call ``due`` again and again, from the thread that entered the fleet."""

    def __init__(self, fleet: Fleet, plan: Iterable[Fault]) -> None:
        self._fleet = fleet
        self.done: Counter[str] = Counter()
        """By part and kind; all workers are one part."""
        self.last = "none yet"
        self.killed_in_the_end = 0
        """Workers that were told to end and did not, in the time they were given."""
        self._now = 0.0
        self._numbers = count()
        self._agenda: list[tuple[float, int, Fault | Undo]] = []
        for fault in plan:
            self._put(fault.at, fault)

    @property
    def told_to_end(self) -> int:
        """How often a worker was, or all of a supervisor's."""
        return sum(n for what, n in self.done.items() if any(end in what for end in _TELLING))

    @property
    def over(self) -> bool:
        return not self._agenda

    def due(self, now: float) -> None:
        """Do what is due. ``now``: seconds since the beginning."""
        self._now = now
        while self._agenda and self._agenda[0][0] <= now:
            at, _, what = heapq.heappop(self._agenda)
            if isinstance(what, Fault):
                self._put(at + what.seconds, self._do(what))
                self.last = str(what)
            else:
                what()

    def _put(self, at: float, what: Fault | Undo) -> None:
        heapq.heappush(self._agenda, (at, next(self._numbers), what))

    def _do(self, fault: Fault) -> Undo:
        self.done[f"{fault.part.partition('-')[0]} {fault.kind}"] += 1
        if fault.part == REDIS:
            return self._to_redis(fault)
        if fault.part == S3:
            return self._to_s3(fault)
        worker = next(worker for worker in self._fleet.workers if worker.name == fault.part)
        return self._to_worker(fault, worker)

    def _to_redis(self, fault: Fault) -> Undo:
        server, proxy = self._fleet.stack.redis, self._fleet.redis_proxy
        match fault.kind:
            case "reset":
                proxy.reset()
            case "killed":
                server.kill()
                return server.start
            case "hanging":
                proxy.hang()
                return proxy.restore
            case "flushed":
                with suppress(RedisError):  # none is left of before a restart: one more try
                    self._fleet.redis.ping()
                self._fleet.redis.flushall()
            case _:
                raise ValueError(fault.kind)
        return _nothing

    def _to_s3(self, fault: Fault) -> Undo:
        server, proxy = self._fleet.stack.s3, self._fleet.s3_proxy
        match fault.kind:
            case "reset":
                proxy.reset()
                return _nothing
            case "killed":
                server.kill()
                return server.start
            case "hanging":
                proxy.hang()
            case "slow":
                # From what is merely slow to longer than a client waits for a small record.
                proxy.slow(0.1 + 2.9 * fault.level)
            case "busy":
                sometimes = Random(fault.level)
                proxy.busy(lambda method, path: sometimes.random() < 0.5)
            case "busy for marks":
                proxy.busy(lambda method, path: method == "PUT" and path.endswith("/result.json"))
            case _:
                raise ValueError(fault.kind)
        return proxy.restore

    def _to_worker(self, fault: Fault, worker: Worker) -> Undo:
        match fault.kind:
            case "child killed":
                _kill_one(worker.children(), fault.level)
                return _nothing
            case "killed":
                worker.kill()
                return worker.spawn
            case "stopped":
                worker.signal(signal.SIGSTOP)
                return lambda: worker.signal(signal.SIGCONT)
            case "parent stopped":
                os.kill(worker.process.pid, signal.SIGSTOP)
                return lambda: worker.signal(signal.SIGCONT)
            case "stopped, then killed":
                worker.signal(signal.SIGSTOP)
                return lambda: self._kill(worker)
            case "reconciler killed":
                _kill_one(worker.reconcilers(), fault.level)
                return _nothing
            case "drained":
                self._order(worker, out=True)
                return lambda: self._let_in(worker)
            case "drained, then told to end":
                self._order(worker, out=True)
                self._put(self._now + DRAINS, worker.tell_to_end)
                return lambda: self._end(worker)
            case "told to end":
                worker.tell_to_end()  # it is started again as soon as it has ended
                return lambda: self._end(worker)
            case _:
                assert isinstance(worker, Supervised)
                return self._to_supervisor(fault, worker)

    def _to_supervisor(self, fault: Fault, worker: Supervised) -> Undo:
        match fault.kind:
            case "leader killed":
                _kill_one(worker.leaders(), fault.level)
                return _nothing
            case "parent killed":
                self._fleet.kill_parent(worker)
                return worker.spawn
            case "parent stopped, leader killed":
                os.kill(worker.process.pid, signal.SIGSTOP)
                _kill_one(worker.leaders(), fault.level)
                return lambda: worker.signal(signal.SIGCONT)
            case "told to end twice":
                worker.tell_to_end(TWICE)
                self._put(self._now + AGAIN, lambda: self._tell_again(worker))
                return lambda: self._end(worker)
            case "told to end, then parent killed":
                worker.tell_to_end()
                self._put(self._now + AGAIN, lambda: self._fleet.kill_parent(worker))
                return worker.spawn
            case "does not load":
                worker.kill()
                worker.break_a_load(fault.level)
                worker.spawn()
                return lambda: self._mend(worker)
            case _:
                raise ValueError(fault.kind)

    @staticmethod
    def _tell_again(worker: Worker) -> None:
        if worker.ending and worker.ended() is None:
            worker.process.terminate()

    def _mend(self, worker: Supervised) -> None:
        """What it has given up serves only after it was started again."""
        worker.mend_the_load()
        worker.tell_to_end({0, SOME_GIVEN_UP})
        self._put(self._now + ENDS, lambda: self._end(worker))

    def _order(self, worker: Worker, *, out: bool) -> bool:
        """Have a worker take no further message, or take them again; whether it was, when asked, as
        it was to become. False also where Redis is away, or knows nothing of it."""
        try:
            team = {health.pid: health for health in workers(self._fleet.redis)}
            known = [team[pid] for pid in worker.leaders() if pid in team]
            for health in known:
                order(self._fleet.redis, health, out=out)
            heard = [(health.state is WorkerState.DRAINING) == out for health in known]
            return len(heard) == worker.devices and all(heard)
        except RedisError:
            pass
        return False

    def _let_in(self, worker: Worker) -> None:
        """Until it says so: Redis may lose the order before it is heard, and the worker keeps to
        the one before."""
        if worker.ended() is None and not self._order(worker, out=False):
            self._put(self._now + LOOK, lambda: self._let_in(worker))

    @staticmethod
    def _kill(worker: Worker) -> None:
        worker.kill()
        worker.spawn()

    def _end(self, worker: Worker) -> None:
        if worker.ending:
            self.killed_in_the_end += 1
            self._kill(worker)


def _kill_one(pids: Sequence[int], level: float) -> None:
    if pids:
        with suppress(ProcessLookupError):
            os.kill(pids[int(level * len(pids))], signal.SIGKILL)


def _nothing() -> None:
    pass
