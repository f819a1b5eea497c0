"""dead and requeue, as an operator calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime

import pytest
import redis

from medgemma_client import Client
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Death, ErrorRecord, ExplanationRecord, Stage, State
from medgemma_tasks.queue import queue_names
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.parts import picture
from tests.stub_engine import StubEngine

WHEN = datetime(2026, 11, 25, 7, 30, tzinfo=UTC)
DEATHS = [
    Death(
        attempt=1,
        at=WHEN,
        worker="celery@a-machine-with-a-very-long-name.of.some.cluster.example.org",
        signal="SIGKILL",
        stage=Stage.GENERATING,
        memory_bytes=12_345_000_000,
    ),
    Death(attempt=2, at=WHEN, worker="gpu1@host", exit_status=1),
    Death(attempt=3, at=WHEN, worker="gpu1@host", reason="time_limit", stage=Stage.EXPLAINING),
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medgemma_cli", *arguments],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=60,
        check=False,
    )


def in_terminal(*arguments: str) -> str:
    """What a terminal shows of a command, by its end."""
    ours, theirs = os.openpty()
    said = b""
    with subprocess.Popen([sys.executable, "-m", "medgemma_cli", *arguments], stdout=theirs):
        os.close(theirs)
        with suppress(OSError):  # nobody has its other end any more
            while part := os.read(ours, 4096):
                said += part
        os.close(ours)
    return said.decode()


@pytest.fixture
def client(stack_settings: Settings) -> Client:
    ledger(stack_settings).publish_model(StubEngine().served)
    return Client(stack_settings)


def ledger(settings: Settings) -> Ledger:
    return Ledger(Store(settings), LiveState(settings))


def failed(client: Client, question: str, code: str = "worker_lost") -> str:
    """A job that failed: no worker runs, so its mark is written by hand."""
    job = client.submit(picture(), question)
    deaths = [death.model_dump(mode="json") for death in DEATHS]
    ours = ledger(client.settings)
    request = ours.request(job.id)
    assert request is not None
    mark = ExplanationRecord(
        job_id=job.id,
        tenant="local",
        state=State.FAILED,
        attempt=3,
        error=ErrorRecord(code=code, message="canary", details={"deaths": deaths}),
        answer="canary",
        submitted_at=request.submitted_at,
        finished_at=WHEN,
    )
    assert ours.commit(mark)
    return job.id


def queued(settings: Settings) -> int:
    with redis.Redis.from_url(settings.broker_url.get_secret_value()) as broker:
        return int(broker.llen(queue_names("phantom")[0]))


def test_the_dead_are_listed_in_columns_that_fit_a_terminal(client: Client) -> None:
    job = failed(client, "canary-prompt")
    other = failed(client, "Another?", "out_of_memory")
    said = run("dead")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == [
        "JOB                               ENDED (UTC)      RUNS  CODE",
        f"{job}  2026-11-25 07:30    3  worker_lost",
        "  run 1   SIGKILL    generating   12.3 GB  07:30:00  celery@a-machine-with-a-...",
        "  run 2   exit 1                           07:30:00  gpu1@host",
        "  run 3   time limit explaining            07:30:00  gpu1@host",
        "1 in all",
    ]
    assert max(map(len, said.stdout.splitlines())) <= 80
    every = run("dead", "--all-codes").stdout
    assert f"{other}  2026-11-25 07:30    3  out_of_memory" in every
    assert "canary" not in said.stdout + every


def test_machines_get_a_line_for_each(client: Client) -> None:
    job = failed(client, "canary-prompt")
    said = run("dead", "--json")
    (line,) = said.stdout.splitlines()
    found = json.loads(line)
    assert (found["job_id"], found["code"], found["attempts"]) == (job, "worker_lost", 3)
    assert [death["signal"] for death in found["deaths"]] == ["SIGKILL", None, None]
    assert "canary" not in said.stdout


def test_in_a_terminal_it_is_said_what_can_be_done(client: Client) -> None:
    assert "--all-codes lists whatever else failed." in in_terminal("dead")
    assert "No job failed." in in_terminal("dead", "--all-codes")
    failed(client, "What?")
    assert "medgemma-explainer requeue JOB" in in_terminal("dead")


def test_where_nothing_died_that_is_said(client: Client) -> None:
    assert run("dead").stdout == "none\n"
    assert run("dead", "--json").stdout == ""
    assert run("requeue", "--all").stdout == "0 queued again\n"


def test_one_is_requeued_or_all_that_are_left(client: Client, stack_settings: Settings) -> None:
    first, *rest = (failed(client, f"Number {n}?") for n in range(4))
    kept = failed(client, "Out of memory?", "out_of_memory")
    before = queued(stack_settings)
    said = run("requeue", first)
    assert (said.returncode, said.stdout) == (0, f"{first} queued\n1 queued again\n"), said.stderr
    said = run("requeue", "--all")
    assert said.returncode == 0
    assert said.stdout.splitlines() == [
        *(f"{job} queued" for job in sorted(rest)),
        "3 queued again",
    ]
    assert queued(stack_settings) == before + 4
    assert json.loads(run("requeue", "--all", "--json").stdout) == {"requeued": []}
    assert json.loads(run("requeue", kept, "--json").stdout) == {"requeued": [kept]}
    assert queued(stack_settings) == before + 5


def test_a_job_that_did_not_fail_is_refused(client: Client) -> None:
    job = client.submit(picture(), "What?")
    said = run("requeue", job.id, "--json")
    assert said.returncode == 1
    assert json.loads(said.stdout)["error"]["code"] == "job_not_failed"
    assert json.loads(run("requeue", "0" * 32, "--json").stdout)["error"]["code"] == "job_not_found"


@pytest.mark.parametrize("arguments", [[], ["--all", "0" * 32]])
def test_jobs_or_all_must_be_named_and_not_both(arguments: list[str]) -> None:
    said = run("requeue", *arguments)
    assert said.returncode == 2
    assert "name jobs, or give --all" in said.stderr
