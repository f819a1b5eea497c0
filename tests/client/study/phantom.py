"""CT series of a bright cube in the patient, as a scanner would write it, whichever way it lies.

Each pixel's value follows from its own place in the patient alone, by the formula of the standard
(PS3.3 C.7.6.2.1.1); nothing of the reader under test is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

AIR, CUBE = -1000, 900
"""In Hounsfield units."""


@dataclass(frozen=True)
class Scan:
    """Where and how slices were taken; mm, LPS."""

    row: Sequence[float] = (1, 0, 0)
    column: Sequence[float] = (0, 1, 0)
    slices: int = 14
    rows: int = 24
    columns: int = 32
    spacing: tuple[float, float] = (3.0, 2.0)
    step: float = 3.0
    """Along row x column; negative: the first slice taken is the last in space."""
    centre: Sequence[float] = (5, -7, 11)
    shift: float = 0.0
    """By which each slice lies farther along its columns than the one before: a tilted gantry."""
    cube: Sequence[float] = (17, -17, 23)
    """Its centre."""
    half: float = 6.0
    """Of its edge."""
    tags: dict[str, Any] = field(default_factory=dict)

    def position(self, taken: int) -> np.ndarray:
        """ImagePositionPatient of the slice that was taken so-and-so many after the first."""
        row, column = np.array(self.row, float), np.array(self.column, float)
        along = taken - (self.slices - 1) / 2
        return (
            np.array(self.centre, float)
            - row * self.spacing[1] * (self.columns - 1) / 2
            - column * self.spacing[0] * (self.rows - 1) / 2
            + np.cross(row, column) * self.step * along
            + column * self.shift * along
        )

    def values(self, taken: int) -> np.ndarray:
        """int16 (rows, columns) of Hounsfield units."""
        row, column = np.array(self.row, float), np.array(self.column, float)
        j, i = np.mgrid[: self.rows, : self.columns]
        places = (
            self.position(taken)
            + i[..., None] * row * self.spacing[1]
            + j[..., None] * column * self.spacing[0]
        )
        inside = (np.abs(places - np.array(self.cube)) <= self.half).all(axis=-1)
        return np.where(inside, CUBE, AIR).astype(np.int16)

    def slice_(self, taken: int, **tags: Any) -> bytes:
        return ct_slice(
            self.values(taken),
            position=self.position(taken),
            orientation=[*self.row, *self.column],
            number=taken + 1,
            PixelSpacing=[*self.spacing],
            SliceThickness=abs(self.step),
            **{**self.tags, **tags},
        )

    def files(self) -> list[bytes]:
        """In the order in which they were taken."""
        return [self.slice_(taken) for taken in range(self.slices)]


def ct_slice(
    values: np.ndarray,
    *,
    position: Sequence[float] | np.ndarray | None = (0, 0, 0),
    orientation: Sequence[float] | None = (1, 0, 0, 0, 1, 0),
    number: int = 1,
    syntax: str = ExplicitVRLittleEndian,
    **tags: Any,
) -> bytes:
    """A DICOM file of Hounsfield units (rows, columns), stored unsigned as scanners do; keywords
    set attributes, or (None) leave them out."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"1.2.3.4.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    ds.FrameOfReferenceUID = "1.2.3.5"
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesNumber, ds.InstanceNumber = 1, number
    if position is not None:
        ds.ImagePositionPatient = [round(float(value), 6) for value in position]
    if orientation is not None:
        ds.ImageOrientationPatient = [float(value) for value in orientation]
    ds.PixelSpacing = [1.0, 1.0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = values.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = (values.astype(np.int32) + 1024).astype("<u2").tobytes()
    for keyword, value in tags.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return written(ds, syntax)


def written(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2.3.9")
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
