"""The two scripts in the images, against real servers and a real worker."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws

from medgemma_tasks.settings import Settings
from medgemma_worker.supervisor.devices import CPU
from medgemma_worker.supervisor.launcher import WORKER_COMMAND, child_environment

ROOT = Path(__file__).parents[2]
PING = ROOT / "deploy" / "ping_worker.py"
INIT = ROOT / "deploy" / "init_store.py"


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def worker(stack_settings: Settings, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real Celery worker as the launcher starts it, with an engine that needs no torch."""
    environment = child_environment(stack_settings, CPU)
    environment["MEDGEMMA_ENGINE"] = "tests.stub_engine:load"
    environment["PYTHONPATH"] = f"{ROOT}:{environment.get('PYTHONPATH', '')}"
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [part.replace("{device}", "cpu") for part in WORKER_COMMAND],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    yield process
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def test_given_a_running_worker_the_health_check_is_content(
    worker: subprocess.Popen[bytes],
) -> None:
    deadline = time.monotonic() + 45
    while (answer := run(PING, "1")).returncode != 0:
        assert worker.poll() is None, "the worker ended"
        assert time.monotonic() < deadline, answer.stderr
    assert answer.stderr == ""


def test_given_no_worker_the_health_check_fails_and_says_why(stack_settings: Settings) -> None:
    answer = run(PING, "0.5")
    assert answer.returncode == 1
    assert "No worker of this host answered" in answer.stderr


def test_given_no_broker_the_health_check_fails_without_naming_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        monkeypatch.setenv("MEDGEMMA_BROKER_URL", f"redis://:hidden@127.0.0.1:{port}/0")
        answer = run(PING)
    assert answer.returncode == 1
    assert "broker" in answer.stderr
    assert "hidden" not in answer.stderr


def test_a_store_without_conditional_puts_is_refused(stack_settings: Settings) -> None:
    answer = run(INIT)
    assert answer.returncode == 1
    assert "does not enforce conditional puts" in answer.stderr


def test_a_store_with_conditional_puts_gets_its_bucket_also_the_second_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDGEMMA_STORE_URL", "s3://made-here")
    monkeypatch.delenv("MEDGEMMA_S3_ENDPOINT_URL", raising=False)
    main = runpy.run_path(str(INIT))["main"]
    with mock_aws():
        assert main() is None
        assert main() is None
    assert "bucket made-here is ready" in capsys.readouterr().out


def test_if_the_store_cannot_be_reached_the_keys_are_not_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        monkeypatch.setenv("MEDGEMMA_S3_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hidden-id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
        answer = run(INIT)
    assert answer.returncode == 1
    assert f"127.0.0.1:{port}" in answer.stderr
    assert "hidden" not in answer.stderr
