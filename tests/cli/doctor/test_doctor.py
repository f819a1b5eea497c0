"""doctor, as people and machines call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import redis

from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store

LIGHT = """\
import sys
from medgemma_cli.main import run
sys.argv = ["medgemma-explainer", "doctor", "--json"]
try:
    run()
finally:
    heavy = {"torch", "transformers"} & set(sys.modules)
    assert not heavy, heavy
"""


def doctor(*command: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *(command or ("-m", "medgemma_cli", "doctor"))],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def by_name(said: str) -> dict[str, Any]:
    told = json.loads(said)
    return {f"{one['part']}, {one['check']}": one for one in told["findings"]}


def test_on_real_parts_nothing_fails_nothing_is_left_and_torch_stays_out(
    stack_settings: Settings,
) -> None:
    status, said = doctor("-c", LIGHT)
    assert (status, json.loads(said)["failed"]) == (0, 0)
    found = by_name(said)
    assert found["settings, readable"]["level"] == "ok"
    assert found["store, objects"]["level"] == "ok"
    assert found["torch, installation"]["found"].startswith("torch ")
    assert found["workers, ready"]["level"] == "warning"
    assert Store(stack_settings).keys("") == []
    with redis.Redis.from_url(stack_settings.broker_url.get_secret_value()) as client:
        assert client.dbsize() == 0
    for secret in (os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_ACCESS_KEY_ID"]):
        assert secret not in said
    assert os.path.expanduser("~") not in said


def test_with_everything_away_all_the_rest_is_told(stack_settings: Settings) -> None:
    away = {
        "MEDGEMMA_BROKER_URL": "redis://:canary@127.0.0.1:1/0",
        "MEDGEMMA_S3_ENDPOINT_URL": "http://canary:canary@127.0.0.1:1",
        "MEDGEMMA_CONNECT_TIMEOUT": "0.5",
        "MEDGEMMA_MODEL": "ours",
        "MEDGEMMA_MODEL_PATH": "/canary",
    }
    status, said = doctor(**away)
    assert status == 1
    assert "canary" not in said
    lines = said.splitlines()
    for part in ("broker, connection", "store, connection", "model, files"):
        assert any(line.startswith(f"FAILED  {part}: ") for line in lines), said
    assert any(line.startswith("ok      versions, packages: celery ") for line in lines)
    assert lines[lines.index(next(x for x in lines if "broker, conn" in x)) + 1].startswith(
        "        -> Check MEDGEMMA_BROKER_URL"
    )


def test_settings_that_cannot_be_read_leave_what_needs_none() -> None:
    status, said = doctor("-m", "medgemma_cli", "doctor", "--json", MEDGEMMA_MAX_IMAGES="canary")
    found = by_name(said)
    assert status == 1
    assert "canary" not in said
    assert found["settings, readable"]["level"] == "failed"
    assert "MEDGEMMA_MAX_IMAGES" in found["settings, readable"]["advice"]
    assert found["versions, python"]["level"] == "ok"
    assert "broker, connection" not in found
