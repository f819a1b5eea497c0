"""The demo: the whole way of a job, on real parts, ending with nothing left running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
from PIL import Image

from medgemma_tasks.models import ExplanationRecord


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medgemma_cli", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_demo_explains_a_phantom_and_stops_all_it_started(tmp_path: Path) -> None:
    before = {process.pid for process in psutil.process_iter()}
    done = demo("--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
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
    started = {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.pid not in before
        and any(
            word in " ".join(process.info["cmdline"] or [])
            for word in ("medgemma", "redis-server", "rclone")
        )
    }
    assert not started


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
