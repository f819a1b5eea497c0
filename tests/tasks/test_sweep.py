"""What a sweep deletes, and what it leaves whatever the store holds."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import timedelta
from secrets import token_hex
from typing import Any

import fakeredis
import pytest

from medgemma_tasks import layout
from medgemma_tasks.errors import StoreRefused
from medgemma_tasks.in_hand import tell
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRecord, Live, Stage, State
from medgemma_tasks.reconcile import Reconciler, Swept
from medgemma_tasks.store import Store
from medgemma_tasks.sweep import Sweeper, Sweepings, artifact_age
from tests.parts import JOB, OTHER_JOB, record_of, request_for

FILES = {
    "relevancy.npz": (b"12345", "application/octet-stream"),
    "overlay-0.png": (b"123", "image/png"),
}
UNREADABLE = b'{"schema_version": 99}'


@pytest.fixture
def sweeper(store: Store, live: LiveState) -> Sweeper:
    return Sweeper(store, live, age=0, probe_age=0)


@pytest.fixture
def mark(ledger: Ledger) -> ExplanationRecord:
    """A job that succeeded at its second attempt; its first was killed after its artifacts."""
    ledger.put_request(request_for().model_copy(update={"job_id": JOB}))
    ledger.put_artifacts(JOB, "1-ab", FILES)
    named = ledger.put_artifacts(JOB, "2-cd", FILES)
    mark = record_of().model_copy(update={"artifacts": named})
    ledger.commit(mark)
    return mark


def folders(ledger: Ledger, job: str = JOB) -> set[str]:
    """The attempts of which artifacts are left."""
    keys = ledger.store.keys(layout.job_prefix("local", job))
    return {layout.attempt_of(key) for key in keys if layout.artifact_path(key)}


def test_what_a_killed_attempt_left_is_deleted_and_what_the_mark_names_stays(
    sweeper: Sweeper, mark: ExplanationRecord, ledger: Ledger
) -> None:
    assert sweeper.sweep() == Sweepings(artifacts=2, size=8)
    assert folders(ledger) == {"2-cd"}
    assert all(ledger.artifact(JOB, artifact) for artifact in mark.artifacts.values())
    assert ledger.has_request(JOB)
    assert sweeper.sweep() == Sweepings()


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_all_artifacts_of_a_job_that_came_to_nothing_are_deleted_and_its_history_stays(
    sweeper: Sweeper, ledger: Ledger, state: State
) -> None:
    ledger.commit(record_of(state=State.FAILED, attempt=3))
    ledger.archive(record_of(state=State.FAILED, attempt=3))
    ledger.put_artifacts(JOB, "1-ab", FILES)
    ledger.commit(record_of(state=state))
    assert sweeper.sweep().artifacts == 2
    left = ledger.store.keys(layout.job_prefix("local", JOB))
    assert [key.split("/")[3] for key in left] == ["history", "result.json"]


def test_a_job_without_a_mark_keeps_everything(sweeper: Sweeper, ledger: Ledger) -> None:
    ledger.put_artifacts(JOB, "1-ab", FILES)
    assert sweeper.sweep() == Sweepings()
    assert folders(ledger) == {"1-ab"}


def test_a_mark_of_a_newer_version_keeps_everything(sweeper: Sweeper, ledger: Ledger) -> None:
    ledger.put_artifacts(JOB, "1-ab", FILES)
    ledger.store.put(layout.result_key("local", JOB), UNREADABLE)
    assert sweeper.sweep() == Sweepings(unreadable=1)
    assert folders(ledger) == {"1-ab"}


def test_what_is_younger_than_a_job_may_take_is_left(
    store: Store, live: LiveState, ledger: Ledger, mark: ExplanationRecord
) -> None:
    store.put(layout.probe_key("local", "ab"), b"1")
    assert artifact_age(live.settings) == 720
    assert Sweeper(store, live).sweep() == Sweepings(young=2)
    assert folders(ledger) == {"1-ab", "2-cd"}


def test_age_is_told_by_the_servers_clock_alone(
    store: Store,
    live: LiveState,
    ledger: Ledger,
    mark: ExplanationRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    list_objects = store._bulk.list_objects_v2
    told = {"date": ""}

    def listed(**options: Any) -> Any:
        page = list_objects(**options)
        page["ResponseMetadata"]["HTTPHeaders"] = {k: v for k, v in told.items() if v}
        return page

    monkeypatch.setattr(store._bulk, "list_objects_v2", listed)
    assert Sweeper(store, live).sweep().young == 2  # a server that does not say: nothing is old
    for ahead, deleted in ((700, 0), (730, 2)):
        written = max(entry.written_at for entry in store.listing("local/"))
        told["date"] = f"{written + timedelta(seconds=ahead):%a, %d %b %Y %H:%M:%S GMT}"
        assert Sweeper(store, live).sweep().artifacts == deleted


def test_a_dry_run_tells_the_same_and_deletes_nothing(
    store: Store, live: LiveState, sweeper: Sweeper, mark: ExplanationRecord, ledger: Ledger
) -> None:
    live.start_attempt(JOB, token_hex(4))
    store.put(layout.probe_key("local", "ab"), b"1")
    before = store.keys("")
    told = Sweeper(store, live, age=0, probe_age=0, dry_run=True).sweep()
    assert store.keys("") == before
    assert told == sweeper.sweep() == Sweepings(artifacts=2, probes=1, size=9, keys=1)


def test_a_job_that_is_put_back_meanwhile_keeps_everything(
    sweeper: Sweeper, ledger: Ledger, live: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = record_of(state=State.FAILED)
    ledger.put_artifacts(JOB, "1-ab", FILES)
    ledger.commit(failed)
    live.start_attempt(JOB, token_hex(4))
    holding = LiveState.holding

    def another_was_quicker(live: LiveState, name: str) -> AbstractContextManager[None]:
        ledger.archive(failed)
        return holding(live, name)

    monkeypatch.setattr(LiveState, "holding", another_was_quicker)
    assert sweeper.sweep() == Sweepings()
    assert folders(ledger) == {"1-ab"}
    ledger.commit(failed)
    ledger.store.delete(*ledger.store.keys(layout.job_prefix("local", JOB) + "1-ab/"))
    assert sweeper.sweep() == Sweepings()
    assert live.start_attempt(JOB, token_hex(4)) == 2


def test_probes_go_and_nothing_beside_them(
    sweeper: Sweeper, ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medgemma_tasks.sweep.DELETE_BATCH", 2)
    kept = ["local/inputs/" + "a" * 64 + ".png", "local/runs/r/manifest.jsonl", "models/m.json"]
    for key in kept:
        store.put(key, b"1")
    for number in range(5):
        store.put(layout.probe_key("local", f"a{number}"), b"1")
    assert sweeper.sweep() == Sweepings(probes=5, size=5)
    assert store.keys("") == kept


def test_keys_of_finished_jobs_go_and_all_others_stay(
    sweeper: Sweeper, live: LiveState, ledger: Ledger, redis_fake: fakeredis.FakeRedis
) -> None:
    for job in (JOB, OTHER_JOB):
        live.report(job, Live(stage=Stage.STORING, progress=1.0, attempt=1))
        live.start_attempt(job, token_hex(4))
        live.cancel(job)
        live.mark_queued([job])
        live.claim(job, 60)
        live.hold(job, "worker", 60)
        redis_fake.rpush(f"medgemma:deaths:local:{job}", "{}")
    redis_fake.set(f"medgemma:lock:local/jobs/{JOB}/result.json:{JOB}", "1")
    redis_fake.set(f"medgemma:running:local:{JOB}", "")
    ledger.commit(record_of(JOB, State.FAILED))
    before = set(redis_fake.keys())
    assert sweeper.sweep() == Sweepings(keys=7)
    gone = before - set(redis_fake.keys())
    assert {key.rpartition(":")[2] for key in gone} == {JOB}
    assert {key.split(":")[1] for key in gone} == {
        *("live", "starts", "cancel", "queued", "put-back", "held", "deaths")
    }


def test_who_still_runs_a_cancelled_job_can_hear_of_it(
    sweeper: Sweeper, live: LiveState, ledger: Ledger, redis_fake: fakeredis.FakeRedis
) -> None:
    live.cancel(JOB)
    ledger.commit(record_of(state=State.CANCELLED))
    tell(redis_fake, "worker", [JOB], 60)
    assert sweeper.sweep() == Sweepings()
    assert live.cancelled(JOB)


def test_keys_of_a_job_whose_mark_cannot_be_read_stay(
    sweeper: Sweeper, live: LiveState, store: Store
) -> None:
    live.cancel(JOB)
    store.put(layout.result_key("local", JOB), UNREADABLE)
    assert sweeper.sweep() == Sweepings()
    assert live.cancelled(JOB)


def test_all_tenants_are_swept_unless_some_are_named(
    sweeper: Sweeper, store: Store, live: LiveState
) -> None:
    for tenant in ("a", "b"):
        theirs = Ledger(store, live.of_tenant(tenant))
        theirs.put_artifacts(JOB, "1-ab", FILES)
        theirs.commit(record_of(state=State.FAILED))
        live.of_tenant(tenant).start_attempt(JOB, token_hex(4))
    assert sweeper.sweep(["a"]) == Sweepings(artifacts=2, size=8, keys=1)
    assert sweeper.sweep() == Sweepings(artifacts=2, size=8, keys=1)


def test_a_reconciler_deletes_what_it_meets_of_lost_attempts_once_it_is_old(
    store: Store,
    live: LiveState,
    ledger: Ledger,
    mark: ExplanationRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Reconciler(store, live, settle=0).sweep() == Swept(finished=1)
    assert folders(ledger) == {"1-ab", "2-cd"}
    monkeypatch.setattr("medgemma_tasks.sweep.artifact_age", lambda _: 0.0)
    assert Reconciler(store, live, settle=0).sweep() == Swept(finished=1, tidied=2)
    assert folders(ledger) == {"2-cd"}


def test_a_store_that_forbids_deleting_keeps_no_job_from_being_put_back(
    store: Store,
    live: LiveState,
    ledger: Ledger,
    mark: ExplanationRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*keys: str) -> None:
        raise StoreRefused("no")

    monkeypatch.setattr("medgemma_tasks.sweep.artifact_age", lambda _: 0.0)
    monkeypatch.setattr("medgemma_tasks.reconcile.grace", lambda _: -60.0)
    monkeypatch.setattr(store, "delete", refuse)
    lost = request_for("Lost?").model_copy(update={"job_id": OTHER_JOB})
    ledger.put_request(lost)
    reconciler = Reconciler(store, live, settle=0, publish=lambda *_: None)
    assert reconciler.sweep() == Swept(put_back=[OTHER_JOB], finished=1)
