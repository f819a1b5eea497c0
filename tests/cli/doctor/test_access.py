"""What doctor says of a model's files: ours, a folder's, and those of a hub, which a small server
of the test's answers as the real one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medgemma_cli.doctor import access
from medgemma_cli.doctor.access import Access
from medgemma_cli.doctor.finding import Level
from medgemma_tasks.settings import Settings
from tests.cli.doctor.told import findings, levels

TOKEN = "hf_canary"
COMMIT = "0" * 40
FILES = ("config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json")

LOOK = """\
import json, os, sys
from medgemma_cli.doctor.access import Access
from medgemma_cli.doctor.finding import examine
from medgemma_tasks.settings import Settings
told = {}
for name, token in json.loads(sys.argv[1]):
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    for one in examine(Access(Settings(model=name)).part()):
        told[f"{name} {bool(token)} {one.check}"] = [one.level.value, one.found, one.advice]
print(json.dumps(told))
"""


class Hub(BaseHTTPRequestHandler):
    """Open models, gated ones and none, as the hub answers for each."""

    def do_HEAD(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        kind = self.path.split("/")[2]
        status, code = 200, ""
        if kind == "gated" and not token:
            status, code = 401, "GatedRepo"
        elif token and token != TOKEN:
            status = 401
        elif kind == "gated":
            status, code = 403, "GatedRepo"
        elif kind == "none":
            status, code = (404, "RepoNotFound") if token else (401, "RepoNotFound")
        elif kind == "broken":
            status = 503
        self.send_response(status)
        self.send_header("X-Error-Code", code) if code else None
        for name, value in (("ETag", '"e"'), ("X-Repo-Commit", COMMIT), ("Content-Length", "0")):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def cache(home: Path, repository: str, *files: str) -> None:
    """As if these files had been fetched."""
    root = home / "hub" / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    folder = root / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_text("{}")


def look(
    home: Path, asked: list[tuple[str, str]], **environment: str
) -> dict[str, tuple[str, str, str]]:
    """What is told in a process of its own, which reads HF_ENDPOINT as it starts."""
    unset = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, json.dumps(asked)],
        env={**unset, "HF_HOME": str(home), "no_proxy": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hf_" not in done.stdout
    assert str(home) not in done.stdout
    return {name: tuple(told) for name, told in json.loads(done.stdout).items()}


@pytest.fixture(scope="module")
def told(hub: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str, str]]:
    asked = [
        *(("them/open", token) for token in ("", TOKEN)),
        *(("them/gated", token) for token in ("", TOKEN)),
        ("else/gated", "hf_wrong"),
        *(("them/none", token) for token in ("", TOKEN)),
        ("them/broken", TOKEN),
    ]
    return look(tmp_path_factory.mktemp("hub"), asked, HF_ENDPOINT=hub)


@pytest.mark.parametrize(
    ("asked", "level", "words"),
    [
        ("them/open False", "ok", "lets us have it"),
        ("them/open True", "ok", "lets us have it"),
        ("them/gated False", "failed", "(401): the model is gated, or there is none"),
        ("them/gated True", "failed", "licence of the model is not accepted"),
        ("else/gated True", "failed", "does not know the token (401)"),
        ("them/none False", "failed", "(401): the model is gated, or there is none"),
        ("them/none True", "failed", "no such repository"),
        ("them/broken True", "failed", "out of order (HTTP 503)"),
    ],
)
def test_what_the_hub_answers_is_told_apart(
    told: dict[str, tuple[str, str, str]], asked: str, level: str, words: str
) -> None:
    found = told[f"{asked} files"]
    assert (found[0], words in found[1], bool(found[2])) == (level, True, level != "ok"), found
    assert told[f"{asked} token"][0] == ("ok" if asked.endswith("True") else "not applicable")


def test_where_the_hub_is_away_the_cache_counts(tmp_path: Path) -> None:
    cache(tmp_path, "them/whole", *FILES)
    cache(tmp_path, "them/part", "config.json")
    asked = [("them/whole", ""), ("them/part", "")]
    away = look(tmp_path, asked, HF_ENDPOINT="http://127.0.0.1:1")
    offline = look(tmp_path, asked, HF_HUB_OFFLINE="1")
    assert away["them/whole False files"][0] == "warning"
    assert away["them/part False files"][0] == "failed"
    assert offline["them/whole False files"][0] == "ok"
    assert offline["them/part False files"][0] == "failed"


def folder_with(folder: Path, config: str, *files: str) -> Settings:
    for name in files:
        (folder / name).write_text("")
    (folder / "config.json").write_text(config)
    return Settings(model="ours", model_path=str(folder))


def test_the_files_of_a_folder_are_looked_at_and_its_path_is_not_told(tmp_path: Path) -> None:
    settings = folder_with(tmp_path, "{}", *FILES)
    assert set(levels(Access(settings).part()).values()) == {Level.OK}
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "1.safetensors"}}')
    found = findings(Access(settings).part())["files"]
    assert found.found == "The folder MEDGEMMA_MODEL_PATH lacks 1.safetensors."
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (tmp_path / "1.safetensors").touch()
    assert "those of another model" in findings(Access(settings).part())["files"].found
    gone = findings(Access(Settings(model="ours", model_path=str(tmp_path / "no"))).part())["files"]
    assert gone.level is Level.FAILED
    assert str(tmp_path) not in gone.found + gone.advice


def test_the_phantom_is_there() -> None:
    assert set(levels(Access(Settings()).part()).values()) == {Level.OK}


def test_a_client_loads_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "installed", lambda name: False)
    assert set(levels(Access(Settings(model="them/gated")).part()).values()) == {
        Level.NOT_APPLICABLE
    }
