"""The command line: how it fails, and what machines read."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from medgemma_tasks.settings import Settings


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medgemma_cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def test_help_names_every_command() -> None:
    shown = run("--help").stdout
    for command in ("demo", "worker", "submit", "status", "fetch", "cancel"):
        assert command in shown


def test_help_imports_no_torch() -> None:
    probe = "import sys, medgemma_cli.main; print('torch' in sys.modules, 'celery' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("command", ["status", "fetch", "cancel"])
def test_an_unknown_job_is_not_found_and_never_pending(
    command: str, stack_settings: Settings
) -> None:
    done = run(command, "0" * 32, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "job_not_found"


def test_an_id_that_is_none_is_refused_before_it_becomes_a_key(stack_settings: Settings) -> None:
    done = run("status", "../../etc/passwd")
    assert done.returncode == 1
    assert "[invalid_request]" in done.stderr
    assert "passwd" not in done.stderr


def test_an_unreachable_store_is_told_by_its_address_without_credentials() -> None:
    done = run(
        "status",
        "0" * 32,
        MEDGEMMA_S3_ENDPOINT_URL="http://user:hunter2@127.0.0.1:9",
        AWS_ACCESS_KEY_ID="a",
        AWS_SECRET_ACCESS_KEY="b",
    )
    assert done.returncode == 1
    assert "[store_unreachable]" in done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "hunter2" not in done.stderr


def test_a_setting_that_cannot_be_used_is_named_and_not_quoted() -> None:
    done = run("status", "0" * 32, MEDGEMMA_MAX_ATTEMPTS="secret-value")
    assert done.returncode == 1
    assert "MEDGEMMA_MAX_ATTEMPTS" in done.stderr
    assert "secret-value" not in done.stderr


def test_wrong_usage_exits_with_two() -> None:
    assert run("submit").returncode == 2
