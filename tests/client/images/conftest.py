"""Files to read: pydicom's own, and small DICOM files made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

Make = Callable[..., bytes]


@pytest.fixture(scope="session")
def wheel_file() -> Callable[[str], Path]:
    """The path of one of the files inside the pydicom wheel; nothing is downloaded."""

    def find(name: str) -> Path:
        path = get_testdata_file(name, download=False)
        assert isinstance(path, str), name
        return Path(path)

    return find


@pytest.fixture(scope="session")
def make_dicom() -> Make:
    """The bytes of a CT with the given stored values; keywords set or (None) drop attributes."""

    def make(stored: np.ndarray | None = None, *, syntax: str = "", **attributes: Any) -> bytes:
        values = np.arange(16).reshape(4, 4) if stored is None else stored
        values = values.astype(values.dtype if values.dtype == np.uint8 else np.int16)
        ds = Dataset()
        ds.SOPClassUID = CTImageStorage
        ds.Modality = "CT"
        ds.SamplesPerPixel = values.shape[2] if values.ndim == 3 else 1
        ds.PhotometricInterpretation = "RGB" if values.ndim == 3 else "MONOCHROME2"
        if values.ndim == 3:
            ds.PlanarConfiguration = 0
        ds.Rows, ds.Columns = values.shape[:2]
        ds.BitsAllocated = ds.BitsStored = 8 * values.itemsize
        ds.HighBit = ds.BitsStored - 1
        ds.PixelRepresentation = int(values.dtype == np.int16)
        data = values.tobytes()
        ds.PixelData = data + b"\0" * (len(data) % 2)
        ds["PixelData"].VR = "OW"
        for keyword, value in attributes.items():
            if value is None:
                del ds[keyword]
            else:
                setattr(ds, keyword, value)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax or ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CTImageStorage)
        ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        buffer = BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    return make
