"""What runs left goes when they said so: that, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from medgemma_tasks.errors import RunNotFound
from medgemma_tasks.layout import (
    input_key,
    job_prefix,
    jobs_prefix,
    request_key,
    result_key,
    run_key,
)
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ExplanationRequest, ManifestLine, RunRecord, State
from medgemma_tasks.purge import Purged, Purger
from tests.parts import picture, record_of, reference, request_for

START = datetime(2026, 11, 1, tzinfo=UTC)
DAY = 86_400.0


def ended(ledger: Ledger, prompt: str, grey: int = 7) -> str:
    """A job with its input, artifacts and mark."""
    image = picture(grey=grey)
    request = request_for(prompt, image=image)
    ledger.put_input(reference(image), b"png")
    ledger.put_request(request)
    artifacts = ledger.put_artifacts(request.job_id, "1-ab", {"a.png": (b"12345", "image/png")})
    ledger.commit(record_of(request.job_id).model_copy(update={"artifacts": artifacts}))
    return request.job_id


def run_of(ledger: Ledger, name: str, jobs: Sequence[str], **said: Any) -> None:
    record = RunRecord(run=name, model="phantom", started_at=START, worked_at=START, **said)
    ledger.store.put(run_key("local", name, "run.json"), record.model_dump_json().encode())
    for part, job in enumerate(jobs):
        ledger.put_manifest(name, [ManifestLine(job=job)], part)


def purge(ledger: Ledger, days: float = 8, **options: Any) -> Purged:
    said = {name: options.pop(name) for name in ("run", "older_than") if name in options}
    now = START + timedelta(days=days)
    options = {"settle": 0, "young": 0, **options}
    return Purger(ledger, now=lambda: now, **options).purge(**said)


def jobs(ledger: Ledger) -> set[str]:
    return {key.split("/")[2] for key in ledger.store.keys(jobs_prefix("local"))}


def inputs(ledger: Ledger) -> set[str]:
    return set(ledger.store.keys("local/inputs/"))


def test_what_expired_goes_with_its_inputs_and_all_else_stays(ledger: Ledger) -> None:
    old = [ended(ledger, f"Old {k}?", grey=k) for k in range(3)]
    new = ended(ledger, "New?", grey=9)
    by_hand = ended(ledger, "By hand, of an image that the old run has too?", grey=0)
    run_of(ledger, "old", old, expire_after_seconds=7 * DAY)
    run_of(ledger, "new", [new], expire_after_seconds=9 * DAY)
    run_of(ledger, "for-ever", [])
    ledger.store.put("local/probe/ab", b"1")
    before = set(ledger.store.keys(""))
    assert purge(ledger, dry_run=True).jobs == 3
    assert set(ledger.store.keys("")) == before
    found = purge(ledger)
    assert (found.runs, found.jobs, found.inputs) == (["old"], 3, 2)
    mine = (*(job_prefix("local", job) for job in old), "local/runs/old/")
    pictures = [reference(picture(grey=k)).name for k in (1, 2)]
    gone = {input_key("local", name, kind) for name in pictures for kind in ("png", "json")}
    assert before - set(ledger.store.keys("")) == gone | {k for k in before if k.startswith(mine)}
    assert jobs(ledger) == {new, by_hand}
    assert purge(ledger) == Purged()


def test_a_job_that_another_run_names_is_kept_with_its_input(ledger: Ledger) -> None:
    shared = ended(ledger, "Both?")
    run_of(ledger, "old", [shared], expire_after_seconds=7 * DAY)
    run_of(ledger, "new", [shared])
    found = purge(ledger)
    assert (found.runs, found.jobs, found.shared, found.inputs) == (["old"], 0, 1, 0)
    assert jobs(ledger) == {shared}
    assert len(inputs(ledger)) == 2


def test_a_run_that_names_its_jobs_without_a_record_keeps_them(ledger: Ledger) -> None:
    shared = ended(ledger, "Both?")
    run_of(ledger, "old", [shared], expire_after_seconds=7 * DAY)
    ledger.put_manifest("by-hand", [ManifestLine(job=shared)])
    assert purge(ledger).shared == 1
    assert jobs(ledger) == {shared}


def test_a_job_without_a_result_is_kept_and_so_is_its_run(ledger: Ledger) -> None:
    request = request_for("Not yet?")
    ledger.put_input(reference(picture()), b"png")
    ledger.put_request(request)
    run_of(ledger, "old", [request.job_id], expire_after_seconds=7 * DAY)
    found = purge(ledger)
    assert (found.runs, found.jobs, found.unfinished) == ([], 0, 1)
    assert list(ledger.run_jobs("old")) == [request.job_id]
    assert len(inputs(ledger)) == 2


def test_what_was_asked_again_just_now_is_kept(ledger: Ledger) -> None:
    job = ended(ledger, "Again?")
    run_of(ledger, "old", [job], expire_after_seconds=7 * DAY)
    found = purge(ledger, young=3600)
    assert (found.runs, found.jobs, found.young) == ([], 0, 1)
    assert jobs(ledger) == {job}


def test_a_job_that_was_put_back_since_it_was_looked_at_is_kept_and_so_is_its_run(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request would be as old as ever, and its message on the queue."""
    job = ended(ledger, "Again?")
    other = ended(ledger, "Other?", grey=8)
    run_of(ledger, "old", [job, other], expire_after_seconds=7 * DAY)
    holding = Ledger.holding

    def puts_back(self: Ledger, job_id: str) -> AbstractContextManager[None]:
        self.store.delete(result_key("local", job))
        return holding(self, job_id)

    monkeypatch.setattr(Ledger, "holding", puts_back)
    found = purge(ledger)
    assert (found.runs, found.jobs, found.unfinished) == ([], 1, 1)
    assert jobs(ledger) == {job}
    assert ledger.has_request(job)
    assert set(ledger.run_jobs("old")) == {job, other}


def test_a_young_input_outlives_its_last_job(ledger: Ledger) -> None:
    """Somebody may just have found it, and be about to name it."""
    job = ended(ledger, "Old?")
    run_of(ledger, "old", [job], expire_after_seconds=7 * DAY)
    purger = Purger(ledger, settle=0, young=0, now=lambda: START + timedelta(days=8))
    found = Purged()
    purger._young = 3600
    purger._inputs([job], found)
    assert found.inputs == 0
    assert len(inputs(ledger)) == 2


def test_of_what_is_over_its_limit_the_oldest_goes(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = [ended(ledger, f"Row {k}?", grey=k) for k in range(4)]
    size = {
        job: sum(e.size for e in ledger.store.listing(job_prefix("local", job))) for job in order
    }
    run_of(ledger, "large", order, max_bytes=size[order[2]] + size[order[3]])
    found = purge(ledger)
    # The server's clock has whole seconds: which two are oldest it may not be able to say.
    assert (found.runs, found.jobs, found.inputs) == ([], 2, 2)
    assert len(jobs(ledger)) == 2
    assert purge(ledger) == Purged()


def test_an_age_on_the_command_line_goes_before_what_a_run_said(ledger: Ledger) -> None:
    job = ended(ledger, "Row?")
    run_of(ledger, "kept", [job])
    run_of(ledger, "other", [], expire_after_seconds=DAY)
    assert purge(ledger, run="kept").runs == []
    assert purge(ledger, run="kept", older_than=9 * DAY).runs == []
    assert purge(ledger, run="kept", older_than=7 * DAY).runs == ["kept"]
    assert ledger.store.exists(run_key("local", "other", "run.json"))
    with pytest.raises(RunNotFound):
        purge(ledger, run="kept")


def test_no_input_goes_while_a_request_cannot_be_read(ledger: Ledger) -> None:
    job = ended(ledger, "Old?")
    ledger.store.put(request_key("local", "0" * 32), b'{"schema_version": 99}')
    run_of(ledger, "old", [job], expire_after_seconds=7 * DAY)
    found = purge(ledger)
    assert (found.jobs, found.inputs, found.unreadable) == (1, 0, 1)
    assert len(inputs(ledger)) == 2


def test_a_purge_that_broke_off_is_done_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = [ended(ledger, f"Row {k}?", grey=k) for k in range(3)]
    run_of(ledger, "old", order, expire_after_seconds=7 * DAY)
    delete, calls = ledger.store.delete, 0

    def breaks(*keys: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        delete(*keys)

    monkeypatch.setattr(ledger.store, "delete", breaks)
    with pytest.raises(KeyboardInterrupt):
        purge(ledger)
    monkeypatch.setattr(ledger.store, "delete", delete)
    for job in order:  # nothing is left that would be believed, or run again
        assert ledger.finished(job) or not ledger.has_request(job)
    assert purge(ledger).runs == ["old"]
    assert jobs(ledger) == inputs(ledger) == set()


def test_an_image_that_is_named_while_its_note_is_gone_is_kept(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ended(ledger, "Old?")
    run_of(ledger, "old", [job], expire_after_seconds=7 * DAY)
    late: list[ExplanationRequest] = []

    def submits(seconds: float) -> None:
        late.append(request_for("Just now?"))
        ledger.put_request(late[0])

    monkeypatch.setattr("medgemma_tasks.purge.time.sleep", submits)
    assert purge(ledger).inputs == 0
    assert jobs(ledger) == {late[0].job_id}
    assert ledger.input(late[0].images[0].name) == b"png"
    assert len(inputs(ledger)) == 2
    ledger.commit(record_of(late[0].job_id, State.FAILED))


def test_an_age_also_takes_jobs_by_hand_that_ended_before_and_no_run_names(ledger: Ledger) -> None:
    by_hand, kept = ended(ledger, "By hand?"), ended(ledger, "In a run?", grey=8)
    run_of(ledger, "kept", [kept])
    waits = request_for("Not yet?", image=picture(grey=9))
    ledger.put_input(reference(picture(grey=9)), b"png")
    ledger.put_request(waits)
    assert purge(ledger, days=1, older_than=2 * DAY) == Purged()  # none is so old by the store
    assert purge(ledger, days=1, older_than=0, run="kept", dry_run=True).jobs == 1
    before = set(ledger.store.keys(""))
    found = purge(ledger, days=-1, older_than=0)  # of runs, none is old by our clock
    assert (found.runs, found.jobs, found.inputs, found.shared) == ([], 1, 1, 1)
    gone = before - set(ledger.store.keys(""))
    name = reference(picture()).name
    pixels = {input_key("local", name, kind) for kind in ("png", "json")}
    assert {key for key in gone if not key.startswith(job_prefix("local", by_hand))} == pixels
    assert jobs(ledger) == {kept, waits.job_id}


def test_without_an_age_jobs_by_hand_stay_however_old(ledger: Ledger) -> None:
    by_hand = ended(ledger, "By hand?")
    assert purge(ledger) == Purged()
    assert jobs(ledger) == {by_hand}


def test_a_dry_run_counts_jobs_by_hand_and_what_was_asked_just_now_is_kept(ledger: Ledger) -> None:
    ended(ledger, "By hand?")
    before = set(ledger.store.keys(""))
    assert purge(ledger, older_than=0, dry_run=True).jobs == 1
    assert purge(ledger, older_than=0, young=3600).young == 1
    assert set(ledger.store.keys("")) == before


def test_a_job_that_ended_anew_since_it_was_looked_at_is_kept(ledger: Ledger) -> None:
    job = ended(ledger, "Again?")
    purger = Purger(ledger, settle=0, young=0)
    seen = purger._below({job})[job]
    for key, entry in list(seen.entries.items()):
        seen.entries[key] = replace(entry, written_at=entry.written_at - timedelta(days=1))
    found = Purged()
    assert not purger._delete_job(job, seen, found)
    assert found.young == 1
    assert ledger.finished(job)


def test_what_a_purge_that_broke_off_left_of_a_job_by_hand_goes_with_the_next(
    ledger: Ledger,
) -> None:
    job = ended(ledger, "By hand?")
    ledger.store.delete(request_key("local", job), result_key("local", job))
    assert purge(ledger, older_than=DAY) == Purged()
    assert purge(ledger, older_than=0).jobs == 1
    assert jobs(ledger) == set()
