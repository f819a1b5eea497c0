"""Results as DICOM, for a PACS and its viewers.

Identifiers never travel with a question. They are taken, at output, from the file that the caller
gives once more, and only after its pixels were found to be those that were explained. Importing
this is cheap: pydicom and highdicom load at the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgemma_client.output.making import Kind, as_bytes, to_dicom
    from medgemma_client.output.original import OutputSource

__all__ = ["Kind", "OutputSource", "as_bytes", "to_dicom"]

_WHERE = {
    "Kind": "making",
    "OutputSource": "original",
    "as_bytes": "making",
    "to_dicom": "making",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
