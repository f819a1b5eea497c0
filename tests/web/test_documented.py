"""docs/http-api.md tells the truth: its commands run, its settings are those there are."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from medgemma_web.keys import KeyRing
from medgemma_web.settings import WebSettings
from tests.tools import tool
from tests.web.asking import ask, ended, png
from tests.web.gateway import GatewayProcess

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/http-api.md").read_text()
COMMANDS = re.findall(r"^    ((?:curl|printf) .+)$", PAGE, re.MULTILINE)

pytestmark = pytest.mark.usefixtures("service")


def test_each_command_runs_in_order_as_it_is_written(
    gateway: GatewayProcess, api: httpx.Client, ours: dict[str, str], tmp_path: Path
) -> None:
    tool("curl")
    (tmp_path / "cxr.png").write_bytes(png())
    done = ask(api, ours, "Is it done?").json()["id"]
    ended(api, ours, f"/v1/explanations/{done}")
    environment = {
        **os.environ,
        "URL": gateway.url,
        "KEY": ours["Authorization"].removeprefix("Bearer "),
        "JOB": done,
    }
    said = [
        subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for command in COMMANDS
    ]
    form, written, as_json, models, status, question, events, result, *more = said
    presigned, *files, cancelled = more
    assert (written, *files) == ("", "", "")
    assert json.loads(form)["state"] in ("submitted", "running", "succeeded")
    assert "id" in json.loads(as_json)
    assert json.loads(models)["limits"]["max_images"] > 0
    assert json.loads(status)["state"] == "succeeded"
    assert json.loads(question)["prompt"] == [0, "Is it done?"]
    assert "event: status" in events
    assert json.loads(result)["answer"]
    signed = json.loads(presigned)["artifacts"]["overlay-0.png"]["url"]
    assert httpx.get(signed).content == (tmp_path / "overlay.png").read_bytes()
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert json.loads(cancelled)["state"] == "succeeded"


def test_the_table_of_settings_is_the_settings() -> None:
    rows = dict(re.findall(r"^\| `MEDGEMMA_WEB_([A-Z_]+)` \| `?([^|`]*)`? \|", PAGE, re.MULTILINE))
    fields = {name.upper(): field for name, field in WebSettings.model_fields.items()}
    assert rows.keys() == fields.keys()
    for name, field in fields.items():
        default = "" if field.default in (None, "") else str(field.default)
        assert rows[name].strip() == default, name


def test_a_key_is_made_as_it_is_written_and_a_gateway_takes_it(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    made, served = (
        shlex.split(line.split("  #")[0])[1:]
        for line in re.findall(r"^    (medgemma-explainer .+)$", PAGE, re.MULTILINE)
    )
    run = [sys.executable, "-m", "medgemma_cli"]
    done = subprocess.run([*run, *made], cwd=tmp_path, capture_output=True, text=True, check=True)
    token, file = done.stdout.strip(), tmp_path / "keys.json"
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    found = KeyRing(file).find(token)
    assert found is not None
    assert found.tenant == "local"
    assert served == ["serve", "--keys", "keys.json"]
