"""The script that makes a store ready, against real servers."""

from __future__ import annotations

import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from moto import mock_aws

from medgemma_tasks.settings import Settings

ROOT = Path(__file__).parents[2]
INIT = ROOT / "deploy" / "init_store.py"


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


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
