"""Reading whole studies on the client's side: folders, zip files and lists of DICOM and others.

``read_study`` chooses what MedGemma is shown of one, and says what it chose. Importing this is
cheap: pydicom loads at the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgemma_client.study.chosen import read_study
    from medgemma_client.study.limits import Limits
    from medgemma_client.study.study import Study

__all__ = ["Limits", "Study", "read_study"]

_WHERE = {"Limits": "limits", "Study": "study", "read_study": "chosen"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
