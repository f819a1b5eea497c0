"""A thousand bad messages straight on the queue, while real jobs run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from medgemma_client.job import Job
from medgemma_tasks.dropped import NO_REQUEST
from medgemma_tasks.in_hand import UNACKED, jobs_of
from medgemma_tasks.layout import job_prefix
from medgemma_worker.parent import intake
from tests.service.bad_messages import (
    DROPPED,
    INTERACTIVE,
    LISTS,
    UNKNOWN,
    Bad,
    Generator,
    malformed,
)
from tests.service.harness import Service, WorkerProcess, until
from tests.stub_engine import ANSWER, StubEngine

WAIT = 60.0
SEED, NUMBER = 20261125, 1000
SHORT = {"MEDGEMMA_VISIBILITY_TIMEOUT": "4"}
"""So the reconciler sweeps every 5 s or so."""


def spoil(service: Service, jobs: list[Job]) -> list[Bad]:
    """Replace the messages of these jobs, which nobody has taken yet, by malformed ones."""
    spoilt: list[Bad] = []
    wanted = {job.id for job in jobs}
    queued: list[bytes] = service.redis.lrange(INTERACTIVE, 0, -1)  # type: ignore[assignment]
    for index, item in enumerate(queued):
        if set(jobs_of(item.decode())) <= wanted:
            content = malformed(item, len(spoilt))
            service.redis.lset(INTERACTIVE, index, content)  # type: ignore[arg-type]
            spoilt.append(Bad(content, INTERACTIVE, DROPPED))
    assert len(spoilt) == len(jobs)
    return spoilt


def push(service: Service, messages: list[Bad]) -> None:
    for bad in messages:
        service.redis.lpush(bad.key, bad.content)


def test_a_thousand_bad_messages_stop_no_worker_and_lose_no_job(
    idle: Service, tmp_path: Path
) -> None:
    idle.ledger.publish_model(StubEngine().served)
    lost = [idle.ask(f"Lost {k}?") for k in range(12)]
    kept = [idle.ask(f"sleep 0.1 kept {k}") for k in range(12)]
    trap = tmp_path / "trap"
    spoilt = spoil(idle, lost)
    generator = Generator(SEED, [job.id for job in kept], [job.id for job in lost], trap)
    others = generator.make(NUMBER - len(spoilt))
    bad = [*spoilt, *others]
    fates = Counter(message.fate for message in bad)
    dropped = Counter(message.queue for message in bad if message.fate == DROPPED)
    counted = {**dropped, NO_REQUEST: fates[UNKNOWN]}
    push(idle, others[:400])
    with WorkerProcess(tmp_path, **SHORT) as worker:
        for start in range(400, len(others), 100):
            kept.append(idle.ask(f"sleep 0.3 while {start}"))
            push(idle, others[start : start + 100])
        jobs = [*kept, *lost]
        for job in jobs:
            assert job.wait(WAIT).answer == ANSWER
        until(lambda: not any(map(idle.redis.llen, LISTS)) and not idle.redis.hlen(UNACKED), WAIT)
        # The last of them was taken, and perhaps not counted yet.
        until(lambda: idle.live.dropped() == counted, WAIT, lambda: str(idle.live.dropped()))
        assert worker._process is not None
        assert worker._process.poll() is None
    # One parent and one child, from the first message to the last.
    assert worker.log.count("serving phantom") == 1
    assert len({worker.child_of(job) for job in jobs}) == 1
    # Each bad message was counted once and logged once, and none is quoted or was run.
    assert len(bad) == NUMBER
    assert idle.live.dropped() == counted
    assert worker.log.count(intake.DROPPED) == fates[DROPPED]
    assert worker.log.count("has no request, dropped") == fates[UNKNOWN]
    assert "canary" not in worker.log
    assert not trap.exists()
    # Each real job committed once: also those of which only a malformed message was left.
    for job in jobs:
        assert worker.starts(job) == worker.log.count(f"job {job.id}: succeeded") == 1
        under = idle.ledger.store.keys(job_prefix("local", job.id))
        assert len(under) == 2 + len(job.result().record.artifacts)
    for job in lost:
        assert worker.log.count(f"job {job.id}: was lost") == 1
