"""The chaos run: a short one, and that its audit sees each thing that it is there to see."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import pytest

from medgemma_tasks.layout import artifact_key, history_key, result_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ErrorRecord, ExplanationRecord, State
from tests.faults.chaos.asks import Ask, Asked, Kind, questions
from tests.faults.chaos.audit import (
    CHANGED,
    ENDS,
    LOST,
    TWICE,
    WHOLE,
    Findings,
    audit_jobs,
    unnamed,
)
from tests.faults.chaos.audit_parts import keys_left, starts, too_often, wasted
from tests.faults.chaos.plan import OF_A_SUPERVISOR, OF_A_WORKER, OF_REDIS, OF_S3, plan
from tests.faults.chaos.run import Options, Run
from tests.faults.s3_proxy import Put
from tests.parts import (
    JOB,
    NOW,
    OTHER_JOB,
    boto_session,
    ledger,
    live,
    redis_fake,
    settings,
    store,
)

__all__ = ["boto_session", "ledger", "live", "redis_fake", "settings", "store"]


@pytest.mark.timeout(280)
def test_in_chaos_nothing_is_lost_and_nothing_is_doubled(tmp_path: Path) -> None:
    report = Run(Options(seconds=25.0, jobs=60, workers=2, seed=3), tmp_path / "run")()
    assert not report.findings.failed, report.text()
    assert report.findings.ends.total() >= 60
    assert sum(report.faults.values()) >= 10
    assert set(report.findings.ends) >= {
        "succeeded",
        "failed (worker_lost)",
        "failed (internal_error)",
    }


# --- the plan ----------------------------------------------------------------------------------


def test_a_seed_is_a_plan() -> None:
    assert plan(1, 600, 3) == plan(1, 600, 3) != plan(2, 600, 3)
    assert questions(1, 360, 2000) == questions(1, 360, 2000) != questions(2, 360, 2000)


@pytest.mark.parametrize(
    ("supervisors", "of_a_worker"), [(False, OF_A_WORKER), (True, OF_A_SUPERVISOR)]
)
def test_of_one_part_one_thing_is_wrong_at_a_time_and_each_kind_comes(
    supervisors: bool, of_a_worker: dict[str, tuple[float, float]]
) -> None:
    faults = plan(1, 600, 3, supervisors)
    for part in {fault.part for fault in faults}:
        mine = [fault for fault in faults if fault.part == part]
        for one, next_one in pairwise(mine):
            assert one.at + one.seconds < next_one.at
        kinds = {"redis": OF_REDIS, "s3": OF_S3}.get(part, of_a_worker)
        assert {fault.kind for fault in mine} == set(kinds)


def test_all_jobs_are_asked_once_and_all_kinds_are_among_them() -> None:
    batches = questions(1, 360, 2000)
    asks = [ask for batch in batches for ask in batch.asks]
    assert len(asks) == len({ask.prompt for ask in asks}) == 2000
    assert {ask.kind for ask in asks} == set(Kind)
    shards = [batch for batch in batches if batch.shard]
    assert sum(len(batch.asks) for batch in shards) == 500
    assert not any(ask.kind.alone for batch in shards for ask in batch.asks)
    assert any(ask.kind is Kind.POISON for batch in shards for ask in batch.asks)


# --- the audit ---------------------------------------------------------------------------------


def mark(state: State = State.SUCCEEDED, code: str | None = None, **more: object) -> bytes:
    error = None if code is None else ErrorRecord(code=code, message="why")
    return (
        ExplanationRecord.model_validate(
            {
                "job_id": JOB,
                "tenant": "local",
                "state": state,
                "attempt": 1,
                "error": error,
                "submitted_at": NOW,
                "finished_at": NOW,
                **more,
            }
        )
        .model_dump_json()
        .encode()
    )


class Outcome:
    """One job that went well, until a test spoils it."""

    def __init__(self, ledger: Ledger, kind: Kind = Kind.QUICK) -> None:
        self.ledger = ledger
        self.asked = Asked(JOB, Ask(kind, "quick", 0.0))
        files = {
            name: (name.encode(), "image/png")
            for name in ("relevancy.npz", "heatmap-0.png", "overlay-0.png")
        }
        self.artifacts = ledger.put_artifacts(JOB, "1-ab", files)
        self.puts: list[Put] = []
        self.seen: set[str] = set()
        self.commit(mark(artifacts=self.artifacts))

    def commit(self, content: bytes) -> None:
        key = result_key("local", JOB)
        self.ledger.store.put(key, content)
        self.puts.append(Put(self._path(key), hashlib.sha256(content).hexdigest(), 200))
        self.seen.add(self.puts[-1].sha256)

    def archive(self, content: bytes) -> None:
        key = history_key("local", JOB, "20261122T120000-0123456789abcdef")
        self.ledger.store.put(key, content)

    def found(self) -> set[str]:
        findings = Findings()
        seen = {result_key("local", JOB): self.seen}
        audit_jobs(self.ledger, [self.asked], self.puts, seen, findings)
        return {check for check, lines in findings.checks.items() if lines}

    def _path(self, key: str) -> str:
        settings = self.ledger.store.settings
        return f"/{settings.bucket}/{settings.prefix}{key}"


@pytest.fixture
def outcome(ledger: Ledger) -> Outcome:
    return Outcome(ledger)


def test_the_audit_finds_nothing_where_all_went_well(outcome: Outcome) -> None:
    assert outcome.found() == set()


def test_the_audit_finds_a_lost_job(outcome: Outcome) -> None:
    outcome.ledger.store.delete(result_key("local", JOB))
    assert outcome.found() == {LOST}


def test_the_audit_finds_a_second_commit(outcome: Outcome) -> None:
    outcome.seen.clear()  # nobody looked in between
    outcome.commit(mark(artifacts=outcome.artifacts, attempt=2))
    outcome.seen.clear()
    assert outcome.found() == {TWICE}


def test_the_same_mark_put_twice_is_one_commit(outcome: Outcome) -> None:
    outcome.commit(mark(artifacts=outcome.artifacts))
    assert outcome.found() == set()


def test_an_earlier_mark_lies_in_the_history_of_a_job_that_was_put_back(outcome: Outcome) -> None:
    failed = mark(State.FAILED, "internal_error")
    outcome.commit(failed)
    outcome.archive(failed)
    outcome.commit(mark(artifacts=outcome.artifacts))
    outcome.asked.put_back = True
    assert outcome.found() == set()
    outcome.asked.put_back = False
    assert outcome.found() == {TWICE}


def test_the_audit_finds_a_mark_that_changed(outcome: Outcome) -> None:
    outcome.seen.add("0" * 64)
    assert outcome.found() == {CHANGED}


def test_the_audit_finds_a_mark_that_no_worker_put(outcome: Outcome) -> None:
    outcome.puts.clear()
    assert outcome.found() == {TWICE}


@pytest.mark.parametrize("harm", ["gone", "other bytes", "other size"])
def test_the_audit_finds_an_artifact_that_is_not_what_its_mark_says(
    outcome: Outcome, harm: str
) -> None:
    key = artifact_key("local", JOB, "1-ab", "heatmap-0.png")
    if harm == "gone":
        outcome.ledger.store.delete(key)
    else:
        outcome.ledger.store.put(key, b"heatmap-9.png" if harm == "other bytes" else b"short")
    assert outcome.found() == {WHOLE}


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        (Kind.POISON, (State.FAILED, "worker_lost")),
        (Kind.CRASH, (State.FAILED, "internal_error")),
        (Kind.CRASH_AGAIN, (State.FAILED, "internal_error")),
        (Kind.SLEEP, (State.SUCCEEDED, None)),
        (Kind.CANCELLED, (State.SUCCEEDED, None)),
    ],
)
def test_each_kind_of_job_has_its_end(
    ledger: Ledger, kind: Kind, ends: tuple[State, str | None]
) -> None:
    outcome = Outcome(ledger, kind)
    artifacts = outcome.artifacts if ends[1] is None else {}
    outcome.puts.clear()
    outcome.seen.clear()
    outcome.commit(mark(*ends, artifacts=artifacts))
    assert outcome.found() == set()
    outcome.puts.clear()
    outcome.seen.clear()
    outcome.commit(mark(State.FAILED, "job_time_limit"))
    assert outcome.found() == {ENDS}


def test_who_was_told_that_a_job_is_cancelled_finds_it_cancelled(ledger: Ledger) -> None:
    outcome = Outcome(ledger, Kind.CANCELLED)
    outcome.asked.cancelled = False
    assert outcome.found() == set()
    outcome.asked.cancelled = True
    assert outcome.found() == {ENDS}


def test_what_no_job_names_is_found_in_the_store(outcome: Outcome) -> None:
    store = outcome.ledger.store
    for fine in (f"local/jobs/{JOB}/request.json", f"local/inputs/{'a' * 64}.png", "models/m.json"):
        store.put(fine, b"{}")
    assert unnamed(outcome.ledger, [outcome.asked]) == []
    orphans = [
        f"local/jobs/{JOB}/2-cd/heatmap-0.png",
        f"local/jobs/{JOB}/surprise",
        f"local/jobs/{OTHER_JOB}/request.json",
        "local/probe/0123",
    ]
    for orphan in orphans:
        store.put(orphan, b"{}")
    assert unnamed(outcome.ledger, [outcome.asked]) == orphans


def test_keys_that_should_have_gone_are_found_in_redis(outcome: Outcome) -> None:
    redis = outcome.ledger.first_writer.live._redis
    redis.set("medgemma:lock:reconcile", "1", ex=60)
    redis.sadd("_kombu.binding.medgemma.phantom.batch", "1")
    redis.set(f"medgemma:live:local:{OTHER_JOB}", "1", ex=60)
    assert keys_left(redis, [outcome.asked]) == []
    redis.set(f"medgemma:live:local:{JOB}", "1", ex=60)
    redis.set("medgemma:for-ever", "1")
    found = sorted(line.split(" (")[1] for line in keys_left(redis, [outcome.asked]))
    assert found == ["of a finished job)", "without an end)"]


def test_a_poison_job_that_was_started_too_often_is_found(ledger: Ledger) -> None:
    outcome = Outcome(ledger, Kind.POISON)
    lines = [f"start {JOB} {number}" for number in range(7)]
    assert too_often(starts(lines[:6]), [outcome.asked], 6) == []
    assert len(too_often(starts(lines), [outcome.asked], 6)) == 1


def test_a_start_that_was_not_needed_is_wasted(outcome: Outcome) -> None:
    lines = [f"start {JOB} 1", f"end {JOB} 1", f"start {JOB} 2", f"start {OTHER_JOB} 1"]
    assert wasted(starts(lines), [outcome.asked]) == 1
    outcome.asked.put_back = True
    assert wasted(starts(lines), [outcome.asked]) == 0
