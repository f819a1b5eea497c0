"""queue, as an operator calls it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

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


@pytest.mark.parametrize(
    ("place", "words"), [(0, "queued, next"), (1, "queued, 1 ahead"), (2, "queued, 2 ahead")]
)
def test_status_tells_the_place_in_the_queue(
    jobs: list[str], stack_settings: Settings, place: int, words: str
) -> None:
    with LiveState(stack_settings).connected() as redis:
        tell_places(redis, "phantom")  # which holds for some seconds
    assert run("status", jobs[place]).stdout == f"{jobs[place]} submitted ({words})\n"
    with LiveState(stack_settings).connected() as redis:
        tell_places(redis, "phantom")
    assert json.loads(run("status", jobs[place], "--json").stdout)["ahead"] == place


def test_one_that_drains_is_told_from_one_that_is_drained(stack_settings: Settings) -> None:
    say(stack_settings, WorkerState.DRAINING, "gpu-0@here")
    say(stack_settings, WorkerState.DRAINING, "gpu-1@here", drained=True)
    said = run("queue").stdout.splitlines()
    assert [line.split()[2] for line in said[3:5]] == ["draining", "drained"]
    assert said[-1] == "No worker is ready: 1 draining, 1 drained."


def test_what_is_a_number_stands_at_the_right_and_no_id_that_begins_like_one(
    stack_settings: Settings,
) -> None:
    job = WorkersJob(job_id=JOB, tenant="local", attempt=1, stage=Stage.EXPLAINING)
    say(stack_settings, WorkerState.BUSY, "gpu-0@here", job=job, done=7)
    say(stack_settings, WorkerState.READY, "gpu-1@here", done=12)
    head, busy, ready = run("queue").stdout.splitlines()[2:5]
    place, end = head.index("JOB"), head.index("DONE") + 4
    assert busy[place:].startswith(f"{JOB}  explaining")
    assert ready[place:].startswith("-  ")
    assert [line[:end].split()[-1] for line in (busy, ready)] == ["7", "12"]


@pytest.mark.parametrize("arguments", [("--watch",), ("--watch", "--json")])
def test_in_a_pipe_nothing_is_watched(arguments: tuple[str, ...]) -> None:
    said = run("queue", *arguments)
    assert said.returncode == 2
    assert "--watch is for a terminal" in said.stderr


class Watched:
    """What a terminal was told."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process, self._terminal = process, terminal
        self.shown = b""

    def until(self, word: bytes) -> None:
        end = time.monotonic() + 60
        while word not in self.shown:
            assert time.monotonic() < end, self.shown[-2000:]
            self.shown += os.read(self._terminal, 4096)


@pytest.fixture
def watching() -> Iterator[Watched]:
    """--watch in a terminal of a few lines."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 9, 80, 0, 0))
    command = [sys.executable, "-m", "medgemma_cli", "queue", "--watch"]
    # What runs tests beside each other may say how large its own terminal is.
    environment = {name: os.environ[name] for name in os.environ.keys() - {"LINES", "COLUMNS"}}
    environment["TERM"] = "xterm"
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        yield Watched(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_in_a_terminal_it_looks_again_and_again_until_it_is_told_to_stop(
    stack_settings: Settings, watching: Watched
) -> None:
    watching.until(b"Nothing is queued")
    say(stack_settings, WorkerState.READY)
    watching.until(b"BEAT")  # of the table of workers
    watching.process.send_signal(signal.SIGINT)
    watching.until(b"\x1b[?1049l")
    assert watching.process.wait(30) == 130
    assert watching.shown.count(b"\x1b[?1049h") == 1  # on a screen of its own
    assert b"\x1b[3J" not in watching.shown  # which takes nothing of what stood above


def test_what_has_no_room_on_the_screen_is_counted(
    stack_settings: Settings, watching: Watched
) -> None:
    for number in range(9):
        say(stack_settings, WorkerState.READY, f"gpu-{number}@here")
    watching.until(b"... and 6 more lines: make the window higher.")
