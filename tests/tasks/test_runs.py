"""A run: the jobs that belong together, and their manifest."""

from __future__ import annotations

import json

import pytest

from medgemma_tasks import ledger as ledgers
from medgemma_tasks.errors import InvalidRequest, RunNotFound
from medgemma_tasks.layout import is_job_id, run_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ManifestLine
from tests.parts import JOB, OTHER_JOB


def test_a_manifest_names_jobs_in_order_and_keeps_what_else_a_line_says(ledger: Ledger) -> None:
    lines = [
        ManifestLine.model_validate({"job": OTHER_JOB, "item": "scan-1"}),
        ManifestLine(job=JOB),
    ]
    ledger.put_manifest("nightly-7", lines)
    assert list(ledger.run_jobs("nightly-7")) == [OTHER_JOB, JOB]
    content = ledger.store.get("local/runs/nightly-7/manifest.jsonl")
    assert content is not None
    assert [json.loads(line) for line in content.splitlines()] == [
        {"job": OTHER_JOB, "item": "scan-1"},
        {"job": JOB},
    ]
    ledger.put_manifest("nightly-7", [])
    assert list(ledger.run_jobs("nightly-7")) == []


def test_a_run_that_nobody_wrote_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(RunNotFound):
        list(ledger.run_jobs("nightly-7"))


@pytest.mark.parametrize("line", ["{}", "canary", '{"job": "../../canary"}', '["canary"]', ""])
def test_a_line_that_names_no_job_is_said_by_its_number_and_not_quoted(
    ledger: Ledger, line: str
) -> None:
    content = f'{{"job": "{JOB}"}}\n{line}\n{{"job": "{JOB}"}}\n'
    ledger.store.put(run_key("local", "r"), content.encode())
    with pytest.raises(InvalidRequest, match="Line 2") as caught:
        list(ledger.run_jobs("r"))
    assert "canary" not in caught.value.message


def test_a_manifest_that_no_memory_would_hold_is_refused(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "MANIFEST_BYTES", 50)
    with pytest.raises(InvalidRequest, match="several runs"):
        ledger.put_manifest("r", [ManifestLine(job=JOB)] * 2)
    assert not ledger.store.exists(run_key("local", "r"))


@pytest.mark.parametrize(
    "name", ["", "-a", "A", "a/b", "..", "a b", "a" * 64, "a\n", JOB, "f" * 32, "0" * 32]
)
def test_a_run_is_named_in_its_alphabet_and_never_like_a_job(name: str) -> None:
    with pytest.raises(InvalidRequest):
        run_key("local", name)


@pytest.mark.parametrize("name", ["a", "2026-11-25", "f" * 31, "f" * 33, "g" * 32, "0" * 63])
def test_what_is_a_runs_name_is_no_jobs(name: str) -> None:
    assert run_key("local", name) == f"local/runs/{name}/manifest.jsonl"
    assert not is_job_id(name)
    assert is_job_id(JOB)
