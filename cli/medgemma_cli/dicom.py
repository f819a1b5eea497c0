"""``--dicom``: a result as DICOM files, beside its other files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medgemma_tasks.errors import NotPlaced

if TYPE_CHECKING:
    from medgemma_client import Result
    from medgemma_client.output import Kind, OutputSource
    from medgemma_client.study import Study

_OURS = re.compile(r"explanation-(sc|pm)(-\d+)?\.dcm")


def write(result: Result, given: Sequence[Path] | Study, out: Path) -> list[str]:
    """explanation-sc-K.dcm of each image K, from 0, that came as DICOM, and explanation-pm.dcm
    (-pm-K where there are several) of what has a place in the patient. The names written.

    given: what was asked about. Those that an earlier job left in the folder are removed. Raises
    as ``Result.to_dicom``, FileUnwritable.
    """
    from medgemma_client.output import as_bytes
    from medgemma_client.writing import remove_files, write_file

    remove_files(out, _OURS)
    images = result.request.images
    dicom = [k for k, image in enumerate(images) if image.attributes.source == "dicom"]
    written = []

    def put(name: str, kind: Kind, k: int) -> None:
        source: OutputSource = given[k] if isinstance(given, Sequence) else given
        write_file(out / name, as_bytes(result.to_dicom(kind, source, k)))
        written.append(name)

    for k in dicom:
        put(f"explanation-sc-{k}.dcm", "sc", k)
    if not isinstance(given, Sequence):
        # Its slices share one map; a pair has two series.
        starts = {0, len(given.prior.images)} if given.prior is not None else {0}
        dicom = [k for k in dicom if k in starts]
    for k in dicom:
        name = "explanation-pm.dcm" if len(dicom) == 1 else f"explanation-pm-{k}.dcm"
        try:
            put(name, "pm", k)
        except NotPlaced:
            continue
    return written
