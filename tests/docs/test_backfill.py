"""The page about backfills tells the truth: its commands run in order, its tables are complete."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from medgemma_cli.main import app
from medgemma_tasks.settings import Settings
from medgemma_worker.phantom.images import make_phantom
from tests.docs.test_readme import ROOT, lines, run
from tests.service.harness import WorkerProcess

PAGE = (ROOT / "docs" / "backfill.md").read_text()
PHANTOM = {"MEDGEMMA_ENGINE": Settings.model_fields["engine"].default}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the first line of the page leaves it."""
    make_phantom(920_001, kind="pneumothorax").image.save(tmp_path / "cxr.png")
    subprocess.run(["sh", "-c", lines("printf")[0]], cwd=tmp_path, check=True)
    return tmp_path


@pytest.fixture
def worker(stack_settings: Settings, folder: Path) -> Iterator[WorkerProcess]:
    """With the model that is here."""
    with WorkerProcess(folder, **PHANTOM) as worker:
        yield worker


def test_backfill_and_purge_run_as_the_docs_write_them(worker: None, folder: Path) -> None:
    commands = [*lines("medgemma-explainer backfill"), *lines("medgemma-explainer purge")]
    assert len(commands) >= 4
    for command in commands:
        said = run(command, folder).stdout
        assert "1 rows" in said or "deleted" in said or "would delete" in said
    (results,) = (folder / "runs").glob("*/results.csv")
    with results.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["item"], row["state"]) == ("film-1", "succeeded")
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("film-1 succeeded")


def test_each_flag_of_a_backfill_is_on_the_page() -> None:
    (command,) = [c for name, c in get_command(app).commands.items() if name == "backfill"]  # type: ignore[attr-defined]
    flags = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}
    hidden = {flag for flag in flags if flag.startswith("--")} - set(re.findall(r"--[a-z-]+", PAGE))
    # Of two that say the opposite, the page names the one that is no default.
    assert hidden <= {"--pad", "--resume", "--help"}
