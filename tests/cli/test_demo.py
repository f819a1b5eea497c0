"""The demo: the whole way of a job, on real parts, ending with nothing left running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pydicom.data
import pytest
from PIL import Image

from medgemma_cli.embedded.service import without_settings
from medgemma_cli.showing import has_screen
from medgemma_tasks.models import ExplanationRecord

WORDS = ("medgemma", "redis-server", "rclone")


def demo(
    *arguments: str, until: Callable[[], bool] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end, or to Ctrl-C once something is so, and see that nothing of what it
    started lives on."""
    command = [sys.executable, "-m", "medgemma_cli", "demo", *arguments]
    pipe = subprocess.PIPE
    started: set[psutil.Process] = set()
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as running:
        while running.poll() is None:
            started.update(psutil.Process(running.pid).children(recursive=True))
            if until is not None and until():
                running.send_signal(signal.SIGINT)
                until = None
            time.sleep(0.05)
        stdout, stderr = running.communicate()
    assert len(started) >= 4, stderr  # Redis, S3, the supervisor and its worker
    _, left = psutil.wait_procs(started, timeout=40)  # whose parents died are reaped by another
    assert not left
    return subprocess.CompletedProcess(command, running.returncode, stdout, stderr)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of somebody who has a service of their own."""
    for name, value in {
        "MEDGEMMA_ENGINE": "no.such.module:load",
        "MEDGEMMA_MODEL_PATH": "/nowhere",
        "MEDGEMMA_TENANT": "theirs",
        "MEDGEMMA_MAX_ATTEMPTS": "wrong",
        "AWS_PROFILE": "nobody-has-this",
        "AWS_CONFIG_FILE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)


def test_the_demo_explains_a_phantom_and_stops_all_it_started(
    tmp_path: Path, elsewhere: None
) -> None:
    seen: list[dict[str, Any]] = []
    done = demo("--out", str(tmp_path), "--serve", until=lambda: shown(tmp_path, seen))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "open.html").exists()
    assert len(seen[0]["targets"]) > 5  # the keyword, and each word
    record = ExplanationRecord.model_validate_json((tmp_path / "result.json").read_text())
    assert record.state == "succeeded"
    assert record.consistency is not None
    assert record.consistency.misses == 0
    assert f"Answer     {record.answer}" in done.stdout
    assert "the peak lies on it" in done.stdout
    assert "report.html" in done.stdout
    with Image.open(tmp_path / "overlay-0.png") as overlay:
        assert overlay.mode == "RGB"
    page = (tmp_path / "report.html").read_text()
    assert "not for diagnosis" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")


def shown(folder: Path, seen: list[dict[str, Any]]) -> bool:
    """Whether the job that the page shows has ended; what it came to is kept."""
    door = folder / "open.html"
    if not door.exists() or not (text := door.read_text()):
        return False
    assert door.stat().st_mode & 0o777 == 0o600
    url, key, job = re.findall(r'href="(http://[^#]+/)#key=([^&]+)&amp;job=(\w+)"', text)[0]
    assert "<title>" in httpx.get(url).text
    header = {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{url}v1/explanations/{job}/result", headers=header)
    if answer.status_code == 200:
        seen.append(answer.json())
    return answer.status_code == 200


def test_the_page_is_opened_only_where_somebody_can_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("CI", raising=False)
    assert has_screen()
    monkeypatch.setenv("CI", "true")
    assert not has_screen()
    monkeypatch.delenv("CI")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert has_screen() == (sys.platform in ("darwin", "win32"))
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert has_screen()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert not has_screen()


def test_the_demo_says_what_was_wrong_with_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no image")
    done = demo("--out", str(tmp_path / "out"), "--image", str(path))
    assert done.returncode == 1
    assert "[not_an_image]" in done.stderr


def test_the_demo_keeps_the_answer_when_the_keyword_is_not_in_it(tmp_path: Path) -> None:
    done = demo("--out", str(tmp_path), "--keyword", "zebra")
    assert done.returncode == 1
    assert "[keyword_not_in_answer]" in done.stderr
    assert "The answer was" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL], ids=["closed", "killed"])
def test_a_demo_that_ends_before_its_time_leaves_nothing_running(
    number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "medgemma_cli", "demo", "--out", str(tmp_path)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    left: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 60
        while "pid" not in log(tmp_path):  # of the worker that the supervisor has started
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        left = psutil.Process(running.pid).children(recursive=True)
        said = " ".join(map(command_of, left))
        assert {word for word in WORDS if word in said} == set(WORDS)
        running.send_signal(number)
        assert running.wait(40) == (129 if number is signal.SIGHUP else -signal.SIGKILL)
        _, left = psutil.wait_procs(left, timeout=40)
        assert not left
    finally:
        running.kill()
        running.wait()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def command_of(process: psutil.Process) -> str:
    """Its command line; nothing of one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def log(folder: Path) -> str:
    path = folder / "worker.log"
    return path.read_text() if path.exists() else ""


def test_the_demo_takes_nothing_from_the_users_own_settings(elsewhere: None) -> None:
    environment = without_settings({**os.environ, "HF_HOME": "kept"})
    assert not any(name.startswith(("MEDGEMMA_", "AWS_")) for name in environment)
    assert environment["HF_HOME"] == "kept"


def test_the_demo_takes_a_study_folder_and_says_what_it_chose(tmp_path: Path) -> None:
    study = Path(str(pydicom.data.get_testdata_file("DICOMDIR"))).parent / "98892001"
    done = demo("--study", str(study), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "make demo SERVE=yes" in done.stdout  # it ends by itself where nobody looks
    assert "study: Shown: series 1 of 3 (CT, 5 slices" in done.stderr
    record = ExplanationRecord.model_validate_json((tmp_path / "result.json").read_text())
    assert len(record.images) == 5
    assert {path.name for path in tmp_path.glob("*.dcm")} == {
        "explanation-pm.dcm",
        *(f"explanation-sc-{k}.dcm" for k in range(5)),
    }
    assert all(shown.image.attributes.plane for shown in record.images)
