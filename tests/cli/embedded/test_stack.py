"""Both servers together, and how they end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import psutil
import pytest
import redis

from medgemma_cli.embedded import EmbeddedS3, EmbeddedStack
from medgemma_tasks.errors import StoreUnreachable
from medgemma_tasks.settings import Settings

PARENT = """\
import time
from medgemma_cli.embedded import EmbeddedStack
with EmbeddedStack() as stack:
    print(stack.redis.pid, stack.s3.pid, flush=True)
    time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a stack, with its temporary folders in tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    yield process
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def servers_of(parent: subprocess.Popen[str]) -> list[int]:
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert not any(gone(pid) for pid in pids)
    return pids


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -signal.SIGINT)],
)
def test_if_the_parent_is_told_to_stop_nothing_is_left(
    number: int, status: int, parent: subprocess.Popen[str], tmp_path: Path
) -> None:
    pids = servers_of(parent)
    parent.send_signal(number)
    assert parent.wait(20) == status
    assert all(gone(pid) for pid in pids)
    assert list(tmp_path.iterdir()) == []


def test_a_second_hangup_does_not_interrupt_the_cleaning_up(
    parent: subprocess.Popen[str], tmp_path: Path
) -> None:
    pids = servers_of(parent)
    deadline = time.monotonic() + 20
    while parent.poll() is None:  # a shell and the kernel may each send one
        assert time.monotonic() < deadline
        parent.send_signal(signal.SIGHUP)
        time.sleep(0.002)
    # -1: the last one came when all was done.
    assert parent.returncode in (129, -signal.SIGHUP)
    assert all(gone(pid) for pid in pids)
    assert list(tmp_path.iterdir()) == []


def test_a_stack_under_nohup_survives_the_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with EmbeddedStack() as stack:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stack.redis.pid is not None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_if_the_parent_is_killed_the_servers_and_their_folders_go_too(
    parent: subprocess.Popen[str], tmp_path: Path
) -> None:
    """What somebody asked a demo about lies in these folders."""
    pids = servers_of(parent)
    assert len(list(tmp_path.iterdir())) == 2
    parent.kill()
    deadline = time.monotonic() + 20
    while not all(gone(pid) for pid in pids) or list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_environment_leads_client_and_worker_to_both_servers(
    stack: EmbeddedStack, stack_settings: Settings
) -> None:
    with redis.Redis.from_url(stack_settings.broker_url.get_secret_value()) as client:
        assert client.ping()
        assert client.dbsize() == 0
    s3 = boto3.client("s3", endpoint_url=stack_settings.s3_endpoint_url)
    s3.put_object(Bucket=stack_settings.bucket, Key=f"{stack_settings.prefix}a", Body=b"x")
    s3.close()
    assert set(stack.environment()) >= {"AWS_REGION", "AWS_EC2_METADATA_DISABLED"}
    # The user's profiles may name another endpoint or a role.
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        assert stack.environment()[name] == os.devnull


def test_if_the_second_server_fails_the_first_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = EmbeddedStack()
    seen: list[int | None] = []

    def fail(self: EmbeddedS3) -> None:
        seen.append(stack.redis.pid)
        raise StoreUnreachable("no")

    monkeypatch.setattr(EmbeddedS3, "start", fail)
    with pytest.raises(StoreUnreachable), stack:
        pass
    assert seen[0] is not None
    assert gone(seen[0])
    assert stack.redis.pid is None


def test_after_a_failure_inside_both_are_stopped_and_signals_are_as_before() -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    pids: list[int | None] = []

    def fail_inside() -> None:
        with EmbeddedStack() as stack:
            pids.extend([stack.redis.pid, stack.s3.pid])
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert len(pids) == 2
    assert all(pid is not None and gone(pid) for pid in pids)
    assert [signal.getsignal(number) for number in numbers] == before
