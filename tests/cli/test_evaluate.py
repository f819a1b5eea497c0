"""evaluate from a terminal: what it writes, and how it fails before minutes are spent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from medgemma_worker.phantom.images import make_phantom
from medgemma_worker.truth.report import Evaluation


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medgemma_cli", "evaluate", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=280,
        check=False,
    )


def test_questions_of_a_folder_are_evaluated(tmp_path: Path) -> None:
    film = make_phantom(420_001, kind="nodule")
    film.image.save(tmp_path / "film.png")
    line = {"image": "film.png", "prompt": "What do you see?", "keyword": "nodule"}
    asked = tmp_path / "questions.jsonl"
    asked.write_text(json.dumps(line), encoding="utf-8")
    out = tmp_path / "new" / "evaluate.json"
    done = run("--questions", asked, "--methods", "chefer,random", "--out", out)
    assert done.returncode == 0, done.stderr
    report = Evaluation.model_validate_json(out.read_text(encoding="utf-8"))
    assert (report.source, report.explained) == ("questions", 1)
    assert list(report.methods) == ["chefer", "random"]
    assert "film.png" not in out.read_text(encoding="utf-8")
    assert Image.open(out.with_suffix(".png")).format == "PNG"
    assert "deletion" in done.stdout
    assert "question 1" in done.stderr


def test_a_method_that_does_not_exist_is_told_with_those_that_do() -> None:
    done = run("--methods", "chefer,tarot")
    assert done.returncode == 1
    assert "'tarot'" in done.stderr
    assert "rollout" in done.stderr


def test_a_file_of_questions_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    done = run("--questions", tmp_path / "none.jsonl", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "file_unreadable"
