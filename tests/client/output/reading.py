"""DICOM as others read and judge it: dciodvfy, dcmtk, pydicom and highdicom."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from PIL import Image

from medgemma_client.result import Result
from tests.tools import tool

WHEEL = Path(pydicom.__file__).parent / "data/test_files"


def radiograph() -> Path:
    return sorted((WHEEL / "dicomdirtests" / "77654033/CR1").iterdir())[0]


def thorax() -> list[Path]:
    """Five CT slices, whose numbers go up while they go down."""
    return sorted((WHEEL / "dicomdirtests" / "98892001/CT5N").iterdir())


def written(made: Any, folder: Path) -> Path:
    path = folder / "made.dcm"
    made.save_as(path, enforce_file_format=True)
    return path


def errors(path: Path) -> set[str]:
    """What dciodvfy calls an error, of what is written as of its source."""
    done = subprocess.run(
        [tool("dciodvfy"), str(path)], capture_output=True, text=True, check=False
    )
    assert path.name != "made.dcm" or re.search("^(SCImage|ParametricMap)$", done.stderr, re.M)
    return {line for line in done.stderr.splitlines() if line.startswith("Error")}


def by_dcmtk(path: Path) -> np.ndarray:
    """The pixels of a colour image."""
    ppm = subprocess.run(
        [tool("dcmj2pnm"), "+op", str(path)], capture_output=True, check=True
    ).stdout
    return np.asarray(Image.open(io.BytesIO(ppm)))


def floats_by_dcmtk(path: Path) -> np.ndarray:
    done = subprocess.run(
        [tool("dcmdump"), "-q", "+L", "+P", "FloatPixelData", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    numbers = done.stdout.split("OF ")[1].split("#")[0]
    return np.array(numbers.strip().split("\\"), np.float64).astype(np.float32)


def by_pydicom(path: Path) -> np.ndarray:
    return np.asarray(pydicom.dcmread(path).pixel_array)


def by_highdicom(path: Path) -> np.ndarray:
    """Stored values of all frames."""
    image = highdicom.imread(str(path))
    return np.asarray(image.get_stored_frames())


def map_by_highdicom(path: Path) -> np.ndarray:
    """Values of the real world, as a viewer would show them."""
    image = highdicom.imread(str(path))
    return np.asarray(image.get_frames(apply_real_world_transform=True, dtype=np.float64))


def placed(result: Result, image: int, target: int) -> tuple[float, float, float, float]:
    """Where the peak of a map must be, x and y in pixels of the image, and half a cell of each."""
    from medgemma_tasks.geometry import cell_centre

    grid = result.record.images[image]
    cell = result.record.targets[target].maps[image].peak_cell
    x, y = cell_centre(cell, (grid.rows, grid.columns), grid.square)
    left, top, right, bottom = grid.square
    return x, y, (right - left) / grid.columns / 2, (bottom - top) / grid.rows / 2
