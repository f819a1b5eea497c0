"""The README tells the truth: its commands and snippets run, its settings are those there are."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medgemma_client import Client
from medgemma_tasks import workers
from medgemma_tasks.layout import model_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import (
    ErrorRecord,
    ExplanationRecord,
    State,
    WorkerHealth,
    WorkerState,
)
from medgemma_tasks.models.run import ManifestLine
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from medgemma_worker.phantom.images import make_phantom
from tests.parts import record_of
from tests.stub_engine import StubEngine

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs/settings.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = [
    snippet
    for page in PAGES
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
]


def lines(start: str) -> list[str]:
    """The indented command lines of all pages that begin so, comments cut off."""
    found = []
    for page in PAGES:
        for line in page.read_text().splitlines():
            if line.startswith("    ") and line.strip().startswith(start):
                found.append(line.split("  #")[0].strip())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the docs speak of: a film with a pneumothorax, an earlier one
    without, and a report."""
    folder = tmp_path_factory.mktemp("readme")
    make_phantom(920_000, kind=None).image.save(folder / "prior.png")
    slices = Path(str(pydicom.data.get_testdata_file("DICOMDIR"))).parent / "98892001" / "CT5N"
    shutil.copytree(slices, folder / "STUDY")
    (folder / "report.txt").write_text("There is a pneumothorax in the left lower zone.\n")
    film = make_phantom(920_001, kind="pneumothorax").image
    film.save(folder / "cxr.png")
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.Modality, data.PatientOrientation = "DX", ["L", "F"]
    data.Rows, data.Columns = film.height, film.width
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.WindowCenter, data.WindowWidth = 128, 256
    data.PixelData = np.asarray(film).tobytes()
    pydicom.dcmwrite(folder / "cxr.dcm", data, enforce_file_format=True)
    return folder


@pytest.fixture
def worker(stack_settings: Settings, tmp_path: Path) -> Iterator[None]:
    """A worker as the README starts one, with the model that is here."""
    command = lines("MEDGEMMA_MODEL=")[0].split("medgemma-explainer")[1].replace("all", "cpu")
    with (tmp_path / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "medgemma_cli", *shlex.split(command)], stdout=log, stderr=log
        )
        try:
            store, deadline = Store(stack_settings), time.monotonic() + 120
            while not store.exists(model_key("phantom")):
                assert process.poll() is None, (tmp_path / "worker.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def test_the_client_runs_as_the_readme_writes_it(worker: None, folder: Path) -> None:
    for command in lines("medgemma-explainer submit"):
        done = run(command, folder)
        assert "Explained  '" in done.stdout
        if "-k pneumothorax" in command:
            assert "Explained  'pneumothorax'" in done.stdout
        assert ("-o out/" in command) == ("report.html" in done.stdout)
    assert (folder / "out" / "report.html").exists()
    for snippet in SNIPPETS:
        if "medgemma_client" in snippet:
            subprocess.run([sys.executable, "-c", snippet], cwd=folder, check=True)
            if "overlay.png" in snippet:
                (folder / "overlay.png").unlink()


def test_the_explainer_runs_as_the_docs_write_it(folder: Path) -> None:
    ran = 0
    for snippet in SNIPPETS:
        if "medgemma_worker" in snippet:
            here = snippet.replace('keyword="nodule"', 'keyword="pneumothorax"')
            subprocess.run([sys.executable, "-c", here], cwd=folder, check=True)
            ran += 1
    assert ran == 2


def test_layers_are_drawn_as_the_docs_write_it(folder: Path) -> None:
    for command in lines("medgemma-explainer layers"):
        run(command, folder)
    assert (folder / "out" / "layers.png").exists()


OPERATORS = "queue", "dead", "requeue", "reconcile", "sweep", "purge --older", "drain", "doctor"


def test_an_operators_commands_run_as_the_docs_write_them(
    stack_settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a job that was given up, and a run of one that waits for a worker."""
    live = LiveState(stack_settings)
    ledger = Ledger(Store(stack_settings), live)
    ledger.publish_model(StubEngine().served)
    client = Client(stack_settings)
    waits = client.submit(folder / "cxr.png", "Does it wait?")
    ledger.put_manifest("run-1", [ManifestLine(job=waits.id)])
    monkeypatch.setenv("MEDGEMMA_VISIBILITY_TIMEOUT", "4")  # as long does `reconcile` listen
    ran: dict[str, str] = {}
    given: dict[str, str] = {}
    for name in OPERATORS:
        for command in lines(f"medgemma-explainer {name}"):
            dead = client.submit(folder / "cxr.png", f"Whose job is given up by {command}?")
            ledger.commit(given_up(dead.id))
            given[command] = dead.id
            meant = command.replace("RUN", "run-1").replace("JOB", dead.id)
            meant = meant.replace("NAME", drained(live))
            ran[command] = run(meant, folder).stdout
    assert {command.split()[1] for command in ran} == {name.split()[0] for name in OPERATORS}
    assert "cpu@here takes no further message" in ran["medgemma-explainer drain NAME"]
    assert "0 failed" in ran["medgemma-explainer doctor"]
    assert "phantom" in ran["medgemma-explainer queue"]
    assert "0 of 1 jobs have ended" in ran["medgemma-explainer reconcile RUN"]
    for command in ("medgemma-explainer dead", "medgemma-explainer requeue JOB"):
        assert given[command] in ran[command]


def drained(live: LiveState) -> str:
    """A worker of this host says that it holds nothing; its name."""
    now = datetime.now(UTC)
    worker = WorkerHealth(
        name="cpu@here",
        host=socket.gethostname(),
        model="phantom",
        device="cpu",
        pid=1,
        state=WorkerState.DRAINING,
        since=now,
        started_at=now,
        drained=True,
        post="post",
    )
    with live.connected() as redis:
        workers.say(redis, worker, 60)
    return worker.name


def given_up(job_id: str) -> ExplanationRecord:
    error = ErrorRecord(code="worker_lost", message="It died.", details={"attempts": 3})
    return record_of(job_id, State.FAILED, 3).model_copy(update={"error": error})


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One command line of the docs, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "medgemma_cli", *shlex.split(command)[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("command", sorted(set(lines("make "))))
def test_make_knows_every_target(command: str) -> None:
    subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "command",
    sorted({c for page in PAGES for c in re.findall(r"`(python [^`]+)`", page.read_text())}),
)
def test_every_program_that_is_named_is_there(command: str) -> None:
    _, *arguments = shlex.split(command)
    if arguments[0] == "-m":
        subprocess.run([sys.executable, "-m", arguments[1], "--help"], check=True)
    else:
        assert (ROOT / arguments[0]).exists()


def test_the_table_of_settings_is_the_settings() -> None:
    rows = dict(
        re.findall(r"^\| `MEDGEMMA_([A-Z0-9_]+)` \| `?([^|`]*)`? \|", SETTINGS, re.MULTILINE)
    )
    fields = {name.upper(): field for name, field in Settings.model_fields.items()}
    assert rows.keys() == fields.keys()
    for name, field in fields.items():
        default = field.default
        value = getattr(default, "get_secret_value", lambda default=default: default)()
        assert rows[name].strip() == ("" if value is None else str(value)), name


def test_every_link_of_the_docs_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_no_page_names_a_path_of_some_machine() -> None:
    home = os.path.expanduser("~")
    for page in PAGES:
        assert home not in page.read_text()
        assert "/shared/" not in page.read_text()
