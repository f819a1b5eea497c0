"""The files inside the pydicom wheel, as the tests of single images have them."""

from __future__ import annotations

from tests.client.images.conftest import make_dicom, wheel_file

__all__ = ["make_dicom", "wheel_file"]
