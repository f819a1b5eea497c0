"""No log at any level, no metric and nothing in Redis holds a patient's data."""

from __future__ import annotations

from tests.privacy.canaries import EVERY, HEADERS, ITEMS, dicom, found
from tests.privacy.scene import Told


def test_what_is_looked_for_is_there_to_be_found(told: Told) -> None:
    """A search that never finds anything would prove nothing."""
    assert found(dicom(), HEADERS) == list(HEADERS)
    asked = b"".join(told.contents.values()) + (told.folder / "out/results.csv").read_bytes()
    assert found(asked) == [canary for canary in EVERY if canary in ("qxcanary", *EVERY[-2:])]
    assert all("DEBUG botocore" in told.logs[who] for who in ("client", "1-submit", "6-backfill"))
    assert "DEBUG/MainProcess" in told.logs["worker and supervisor"]
    assert "DEBUG/ForkPoolWorker" in told.logs["worker and supervisor"]
    assert told.commanded.count(b"medgemma") > 100


def test_no_log_of_worker_supervisor_client_or_command_at_any_level(told: Told) -> None:
    for who, log in told.logs.items():
        assert found(log) == [], who


def test_what_a_command_prints_is_the_answer_that_was_asked_for(told: Told) -> None:
    for command, printed in told.printed.items():
        allowed = ("qxcanary", "canary-answer") if command in ("1-submit", "2-submit") else ()
        assert set(found(printed)) <= set(allowed), command


def test_no_metric(told: Told) -> None:
    assert "medgemma_worker_up" in told.metrics
    assert found(told.metrics) == []


def test_no_command_to_redis_and_nothing_that_it_held(told: Told) -> None:
    assert found(bytes(told.commanded)) == []
    assert b"medgemma.phantom.interactive" in told.memory["amid"]
    for held in told.memory.values():
        assert found(held) == []


def test_files_of_a_backfill_hold_what_was_asked_for_and_nothing_of_a_header(told: Told) -> None:
    for path in sorted((told.folder / "out").iterdir()):
        held = path.read_bytes()
        assert found(held, HEADERS) == [], path.name
    failures = (told.folder / "out/failures.csv").read_bytes()
    assert found(failures) == [*ITEMS]  # as the caller calls the row
    assert b"dicom_undecodable" in failures
