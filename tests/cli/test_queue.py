"""queue, as an operator calls it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from medgemma_cli.queue import CLEARED, print_table
from medgemma_client import Client
from medgemma_tasks import workers
from medgemma_tasks.backlog import tell_places
from medgemma_tasks.dropped import NO_REQUEST
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Stage, WorkerHealth, WorkersJob, WorkerState
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.parts import JOB, picture
from tests.stub_engine import StubEngine


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medgemma_cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def say(settings: Settings, state: WorkerState, name: str = "gpu-0@here", **fields: Any) -> None:
    since = datetime.now(UTC) - timedelta(minutes=5, seconds=3)
    health = WorkerHealth(
        name=name,
        host="here",
        device="GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f",
        pid=7,
        state=state,
        since=since,
        started_at=since,
        **{"model": "phantom", **fields},
    )
    with LiveState(settings).connected() as redis:
        workers.say(redis, health, 60)


@pytest.fixture
def jobs(stack_settings: Settings) -> list[str]:
    """Three that wait."""
    Ledger(Store(stack_settings), LiveState(stack_settings)).publish_model(StubEngine().served)
    client = Client(stack_settings)
    return [client.submit(picture(), question).id for question in ("One?", "Two?", "Three?")]


def test_what_waits_and_who_works_are_told_in_lines(
    jobs: list[str], stack_settings: Settings
) -> None:
    job = WorkersJob(tenant="local", job_id=JOB, attempt=1, stage=Stage.GENERATING)
    busy = {"job": job, "done": 17, "beat_seconds": 0.4}
    say(stack_settings, WorkerState.BUSY, "gpu-0@here", **busy)
    say(stack_settings, WorkerState.SETUP_FAILED, "gpu-1@here")
    said = run("queue")
    assert (said.returncode, said.stderr) == (0, "")
    rows = [line.split() for line in said.stdout.splitlines()]
    assert rows[1][:4] == ["phantom", "interactive", "3", "3"]
    assert rows[1][5:] == ["s", "0"]
    assert "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f" in rows[4]
    assert rows[4][2:] == ["busy", "5", "min", JOB, "generating", "17", "0", "s"]
    assert rows[5][2:] == ["setup", "failed", "5", "min", "-", "-", "0", "-"]
    assert "ready" not in said.stdout
    assert "batch queue first" not in said.stdout


def test_the_worker_that_serves_the_batch_queue_first_is_named(stack_settings: Settings) -> None:
    say(stack_settings, WorkerState.BUSY, "gpu-0@here")
    say(stack_settings, WorkerState.BUSY, "gpu-1@here", bulk_first=True)
    assert "\ngpu-1@here serves the batch queue first.\n" in run("queue").stdout


def test_machines_get_one_object(jobs: list[str], stack_settings: Settings) -> None:
    say(stack_settings, WorkerState.READY)
    said = run("queue", "--json")
    assert (said.returncode, said.stderr) == (0, "")
    found = json.loads(said.stdout)
    (waiting,) = found["queues"]
    assert (waiting["model"], waiting["kind"]) == ("phantom", "interactive")
    assert (waiting["messages"], waiting["jobs"], waiting["delivered"]) == (3, 3, 0)
    request = Ledger(Store(stack_settings), LiveState(stack_settings)).request(jobs[0])
    assert request is not None
    assert datetime.fromisoformat(waiting["oldest"]) == request.submitted_at
    (worker,) = found["workers"]
    assert WorkerHealth.model_validate(worker).state is WorkerState.READY


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([], "No worker is ready: there is none."),
        (
            [WorkerState.STARTING, WorkerState.DEFUNCT, WorkerState.STARTING],
            "No worker is ready: 2 starting, 1 defunct.",
        ),
    ],
)
def test_that_no_worker_is_ready_is_said_in_a_sentence(
    stack_settings: Settings, states: list[WorkerState], words: str
) -> None:
    for number, state in enumerate(states):
        say(stack_settings, state, f"gpu-{number}@here")
    said = run("queue")
    assert said.returncode == 0
    assert said.stdout.startswith("Nothing is queued.\n")
    assert said.stdout.splitlines()[-1] == words


def test_a_model_whose_jobs_nobody_takes_is_named(
    jobs: list[str], stack_settings: Settings
) -> None:
    say(stack_settings, WorkerState.READY, model="another/model")
    last = run("queue").stdout.splitlines()[-1]
    assert last == "No worker of phantom is ready: its jobs wait."


def test_what_was_dropped_is_told(stack_settings: Settings) -> None:
    live = LiveState(stack_settings)
    live.count_dropped(NO_REQUEST)
    for _ in range(2):
        live.count_dropped("medgemma.phantom.batch")
    said = run("queue").stdout
    assert "Dropped of late, messages of medgemma.phantom.batch that hold no jobs: 2." in said
    assert "Dropped of late, jobs that nobody submitted: 1." in said
    found = json.loads(run("queue", "--json").stdout)["dropped"]
    assert found == {"medgemma.phantom.batch": 2, "no-request": 1}


def test_with_the_store_away_the_rest_is_told(jobs: list[str]) -> None:
    away = {"MEDGEMMA_S3_ENDPOINT_URL": "http://127.0.0.1:1", "MEDGEMMA_CONNECT_TIMEOUT": "0.5"}
    said = run("queue", **away)
    assert said.returncode == 0
    assert "store_unreachable" in said.stderr
    assert said.stdout.splitlines()[1].split() == ["phantom", "interactive", "3", "3", "-", "0"]


def test_with_redis_away_it_fails_by_name() -> None:
    said = run("queue", "--json", MEDGEMMA_BROKER_URL="redis://127.0.0.1:1/0")
    assert said.returncode == 1
    assert json.loads(said.stdout)["error"]["code"] == "broker_unreachable"


def test_status_tells_the_place_in_the_queue(jobs: list[str], stack_settings: Settings) -> None:
    with LiveState(stack_settings).connected() as redis:
        tell_places(redis, "phantom")
    assert run("status", jobs[0]).stdout == f"{jobs[0]} submitted (queued, next)\n"
    assert run("status", jobs[2]).stdout == f"{jobs[2]} submitted (queued, 2 ahead)\n"
    assert json.loads(run("status", jobs[1], "--json").stdout)["ahead"] == 1


@pytest.mark.parametrize("width", [80, 100, 200])
def test_in_a_terminal_each_row_is_one_line_of_it(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((width, 24)))
    rows = [["NAME", "STATE", "DONE"], ["n" * 150, "setup failed", "7"], ["short", "busy", "12"]]
    print_table(rows, cut=(0,))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) == min(width, 150 + 2 + 12 + 2 + 4)
    assert lines[1].endswith("setup failed     7")
    assert ("…" in lines[1]) == (width < 170)


def test_one_that_drains_is_told_from_one_that_is_drained(stack_settings: Settings) -> None:
    say(stack_settings, WorkerState.DRAINING, "gpu-0@here")
    say(stack_settings, WorkerState.DRAINING, "gpu-1@here", drained=True)
    said = run("queue").stdout.splitlines()
    assert [line.split()[2] for line in said[3:5]] == ["draining", "drained"]
    assert said[-1] == "No worker is ready: 2 draining."


@pytest.mark.parametrize("arguments", [("--watch",), ("--watch", "--json")])
def test_in_a_pipe_nothing_is_watched(arguments: tuple[str, ...]) -> None:
    said = run("queue", *arguments)
    assert said.returncode == 2
    assert "--watch is for a terminal" in said.stderr


def test_in_a_terminal_it_looks_again_and_again_until_it_is_told_to_stop(
    stack_settings: Settings,
) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "medgemma_cli", "queue", "--watch"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        shown = b""
        while b"Nothing is queued" not in shown:
            shown += os.read(ours, 4096)
        say(stack_settings, WorkerState.READY)
        while b"BEAT" not in shown:  # of the table of workers
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert shown.count(CLEARED.encode()) >= 2
