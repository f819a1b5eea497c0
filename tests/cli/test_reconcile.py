"""reconcile, as an operator calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict

import pytest
import redis

from medgemma_client import Client
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ManifestLine
from medgemma_tasks.queue import queue_names
from medgemma_tasks.reconcile import Swept
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.parts import picture, record_of
from tests.stub_engine import StubEngine


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medgemma_cli", "reconcile", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "MEDGEMMA_VISIBILITY_TIMEOUT": "2"},
        timeout=60,
        check=False,
    )


@pytest.fixture
def lost(stack_settings: Settings) -> list[str]:
    """Two jobs whose messages Redis lost, with the rest of its memory."""
    live = LiveState(stack_settings)
    Ledger(Store(stack_settings), live).publish_model(StubEngine().served)
    client = Client(stack_settings)
    jobs = [client.submit(picture(), question).id for question in ("One?", "Two?")]
    with redis.Redis.from_url(stack_settings.broker_url.get_secret_value()) as broker:
        broker.flushdb()
    time.sleep(1.5)  # past the grace, by the server's clock of whole seconds
    return jobs


def test_given_ids_those_are_put_back_then_the_others(
    lost: list[str], stack_settings: Settings
) -> None:
    first, second = lost
    said = run(first)
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[0] == f"{first} put back"
    assert second not in said.stdout
    rest = run("--json")
    assert rest.returncode == 0
    assert rest.stderr == ""
    assert json.loads(rest.stdout) == asdict(Swept(put_back=[second], known=1))
    with redis.Redis.from_url(stack_settings.broker_url.get_secret_value()) as broker:
        assert broker.llen(queue_names("phantom")[0]) == 2


def test_given_a_run_its_jobs_are_put_back_and_it_is_told_how_far_it_is(
    lost: list[str], stack_settings: Settings
) -> None:
    first, second = lost
    ledger = Ledger(Store(stack_settings), LiveState(stack_settings))
    never = "0" * 32
    ledger.put_manifest("nightly", [ManifestLine(job=job) for job in (first, never)])
    said = run("nightly")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[0] == f"{first} put back"
    assert said.stdout.splitlines()[-1] == "0 of 2 jobs have ended, 1 never submitted"
    assert second not in said.stdout
    ledger.commit(record_of(first))
    told = json.loads(run("nightly", second, "--json").stdout)
    assert told == {**asdict(Swept(put_back=[second], finished=1)), "jobs": 3, "unsubmitted": 1}


def test_an_unknown_run_is_not_found(stack_settings: Settings) -> None:
    said = run("nightly", "--json")
    assert said.returncode == 1
    assert json.loads(said.stdout)["error"]["code"] == "run_not_found"


def test_what_is_neither_a_run_nor_a_job_is_refused_and_not_quoted(
    stack_settings: Settings,
) -> None:
    said = run("../../etc/passwd")
    assert said.returncode == 1
    assert "[invalid_request]" in said.stderr
    assert "passwd" not in said.stderr


def test_an_unknown_job_is_not_found(stack_settings: Settings) -> None:
    said = run("0" * 32, "--json")
    assert said.returncode == 1
    assert json.loads(said.stdout)["error"]["code"] == "job_not_found"
