"""The command line in processes of its own, which log all they can, and a manifest for it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

from tests.privacy.canaries import FILE, ITEM, KEYWORD, PROMPT, dicom
from tests.service.harness import ROOT

SECONDS = 60.0
LOUD = os.pathsep.join(
    map(
        str,
        (
            Path(__file__).parent / "loud",
            ROOT,
            *(ROOT / name for name in ("client", "tasks", "worker", "cli")),
        ),
    )
)
"""A PYTHONPATH with which a process logs everything."""

BAD_IMAGES: dict[str, bytes] = {
    "not_an_image": b"hxcanary: no image",
    "truncated_image": dicom()[:-20],
    "empty_image": dicom(Rows=0),
    "image_too_large": dicom(Rows=60_000, Columns=60_000),
    "dicom_not_an_image": dicom(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"),
    "dicom_without_pixels": dicom(PixelData=None),
    "dicom_undecodable": dicom(PhotometricInterpretation="HXCANARY"),
}
"""What cannot be read, by the code of its error."""


class Commands:
    """Run in a folder, with another for what is temporary."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.printed: dict[str, str] = {}
        """By command, on standard output."""
        self.logged: dict[str, str] = {}
        """And on standard error."""
        self._folder, self._temporary, self._number = folder, temporary, 0

    def run(self, *arguments: str, fails: bool = False) -> None:
        process, name = self.start(*arguments)
        status = process.wait(SECONDS)
        self.hear(name)
        assert (status != 0) == fails, self.logged[name]

    def start(self, *arguments: str) -> tuple[subprocess.Popen[bytes], str]:
        """A command at work, and its name, for ``hear``."""
        self._number += 1
        name = f"{self._number}-{arguments[0]}"
        out, log = (self._folder / f"{name}.{kind}" for kind in ("out", "log"))
        with out.open("wb") as printed, log.open("wb") as logged:  # a pipe would fill up
            process = subprocess.Popen(
                [sys.executable, "-m", "medgemma_cli", *arguments],
                cwd=self._folder,
                stdout=printed,
                stderr=logged,
                env={**os.environ, "PYTHONPATH": LOUD, "TMPDIR": str(self._temporary)},
            )
        return process, name

    def hear(self, name: str) -> None:
        self.printed[name] = (self._folder / f"{name}.out").read_text()
        self.logged[name] = (self._folder / f"{name}.log").read_text()


def image(folder: Path, name: str, content: bytes) -> Path:
    """A file whose name is a canary, too."""
    path = folder / f"{FILE}-{name}.dcm"
    path.write_bytes(content)
    return path


def manifest(folder: Path, url: str) -> Path:
    """Three rows that can be asked, of images of their own, one that crashes, and one for
    whatever cannot be asked."""
    rows = [
        (f"{ITEM}-{k}", image(folder, f"row-{k}", dicom(100 + k)).name, f"{PROMPT} {k}", "")
        for k in range(3)
    ]
    good = rows[0][1]
    for code, content in BAD_IMAGES.items():
        rows.append((f"{ITEM}-{code}", image(folder, f"row-{code}", content).name, PROMPT, ""))
    rows += [
        (f"{ITEM}-crash", good, f"crash {PROMPT}", ""),
        (f"{ITEM}-absent", f"{FILE}-absent.dcm", PROMPT, ""),
        (f"{ITEM}-url", url, PROMPT, ""),
        (f"{ITEM}-0", good, PROMPT, ""),
        (f"{ITEM}-target", good, PROMPT, f"{KEYWORD}:x"),
        (f"{ITEM}-no-prompt", good, "", ""),
    ]
    return _written(folder / f"{FILE}.csv", rows)


def long_manifest(folder: Path) -> Path:
    """Rows that take a while, to read and to answer."""
    large = (800, 800)
    rows = [
        (
            f"{ITEM}-{k}",
            image(folder, f"large-{k}", dicom(3 + k, size=large)).name,
            f"sleep 0.3 {PROMPT} {k}",
            "",
        )
        for k in range(6)
    ]
    return _written(folder / f"{FILE}-long.csv", rows)


def _written(path: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("item", "image", "prompt", "target"), *rows])
    return path
