"""Reading a CT series of 300 slices of 512 x 512, against pydicom's own decoding of the same files.

Of a series so long 85 slices are shown, and only those decoded; of all others the headers are
read. The last row shows every slice, so that each is decoded, windowed, and named by its pixels.
Each is the least of some runs, in turns.

    python benchmarks/reading.py [--slices 300] [--runs 3] [--syntax plain|rle|jpeg2000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from medgemma_client.study import read_study

SIDE = 512
MOST = 1.3
"""Times pydicom's own."""
SYNTAXES = {
    "plain": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg2000": JPEG2000Lossless,
}


def write_series(folder: Path, slices: int, syntax: str) -> None:
    """A body of noise in air, as scanners write it."""
    noise = np.random.default_rng(5).normal(40, 25, (SIDE, SIDE))
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    study, series, space = generate_uid(), generate_uid(), generate_uid()
    for k in range(slices):
        body = x**2 + y**2 * 1.6 < 0.7 + 0.1 * np.sin(k / 30)
        values = np.where(body, np.roll(noise, 7 * k, axis=0), -1000)
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, space
        ds.Modality, ds.ImageType, ds.InstanceNumber = "CT", ["ORIGINAL", "PRIMARY"], slices - k
        ds.ImagePositionPatient = [-180, -180, 1.25 * k]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [0.703125, 0.703125], 1.25
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows = ds.Columns = SIDE
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = np.clip(values + 1024, 0, 4095).astype("<u2").tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if syntax != "plain":
            ds.compress(SYNTAXES[syntax], generate_instance_uid=False)
        ds.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)


def by_pydicom(folder: Path) -> int:
    """Every slice, to stored values."""
    return sum(pydicom.dcmread(path).pixel_array.shape[0] > 0 for path in folder.iterdir())


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3, help="of each, in turns")
    parser.add_argument("--syntax", choices=SYNTAXES, default="plain")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_series(folder, said.slices, said.syntax)
        ways: dict[str, Callable[[], object]] = {
            "pydicom": lambda: by_pydicom(folder),
            "as it is asked about": lambda: read_study(folder),
            "every slice shown": lambda: read_study(folder, max_slices=said.slices),
        }
        for way in ways.values():
            way()  # so that all files are in memory, and all modules
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(said.runs):
            for name, way in ways.items():
                times[name].append(seconds(way))
    own = min(times["pydicom"])
    print(f"{said.slices} slices of {SIDE} x {SIDE}, {said.syntax}, least of {said.runs} runs")
    for name, taken in times.items():
        print(f"  {name:<22} {min(taken):6.2f} s   {min(taken) / own:5.2f} x pydicom's")
    holds = min(times["as it is asked about"]) <= MOST * own
    print(f"{'yes' if holds else 'NO':>4}  reading takes at most {MOST} times pydicom's decoding")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
