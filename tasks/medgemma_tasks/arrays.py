"""``relevancy.npz``: results as unscaled arrays, and one JSON text for all the rest.

NumPy alone reads it. The first result's arrays have plain names (``image_scores``); those of a
second one end in ``.1``, and so on: a job has one result for each of its targets.
"""

from __future__ import annotations

import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgemma_tasks.errors import ArtifactDamaged, FileUnreadable, InternalError, NonFiniteRelevancy
from medgemma_tasks.explanation import OPTIONAL, ExplanationResult
from medgemma_tasks.models import Areas, Consistency, Shares, Span

_ARRAYS = ("image_scores", "text_scores", "text_positions")
_LARGEST_FILE = 2**30
"""Bytes, unpacked: more than any job's results hold, less than harms a reader."""

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(ValueError, KeyError, TypeError, AttributeError, SyntaxError, RuntimeError, MemoryError),
    *(InternalError, NonFiniteRelevancy),
)
"""All that zipfile, numpy, json and our own checks raise on bytes that are not what was saved."""


def pack(results: Sequence[ExplanationResult]) -> bytes:
    """The bytes of one file with all results. Same results, same bytes."""
    arrays: dict[str, Any] = {}
    rest = []
    for index, result in enumerate(results):
        for name in (*_ARRAYS, *OPTIONAL):
            value = getattr(result, name)
            if value is not None:
                arrays[name + _suffix(index)] = value
        rest.append(_rest(result))
    # Bytes, not a numpy string: that one drops a NUL at its end.
    text = json.dumps(rest, sort_keys=True, allow_nan=False, default=_plain)
    arrays["rest"] = np.frombuffer(text.encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> tuple[ExplanationResult, ...]:
    """The results that ``pack`` wrote, at least one. Raises ArtifactDamaged; never unpickles."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_FILE:
                raise ArtifactDamaged("The arrays unpack to more than any result holds.")
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        rest = json.loads(arrays.pop("rest").tobytes())
        # The release before this one wrote a single result, and its rest by itself.
        parts = [rest] if isinstance(rest, dict) else rest
        results = tuple(_result(arrays, part, _suffix(i)) for i, part in enumerate(parts))
        if not results or arrays:
            raise ArtifactDamaged("The arrays and their description do not belong together.")
        return results
    except _DAMAGE as error:
        raise ArtifactDamaged("The arrays of a result cannot be read.") from error


def save(results: Sequence[ExplanationResult], path: str | Path) -> None:
    """Write ``pack`` to a file, under exactly this name."""
    Path(path).write_bytes(pack(results))


def load(path: str | Path) -> tuple[ExplanationResult, ...]:
    """What ``save`` wrote, or a job's relevancy.npz. Raises FileUnreadable, ArtifactDamaged."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        # No path: its name may be a patient's.
        raise FileUnreadable(f"The results cannot be read: {error.strerror}.") from None
    return unpack(data)


def _suffix(index: int) -> str:
    return f".{index}" if index else ""


def _rest(result: ExplanationResult) -> dict[str, Any]:
    return {
        "token_labels": result.token_labels,
        "generated_text": result.generated_text,
        "metadata": result.metadata,
        "text_roles": result.text_roles,
        "own_relevancy": result.own_relevancy,
        "shares": result.shares.model_dump(mode="json"),
        "consistency": result.consistency.model_dump(mode="json"),
        "spans": [span.model_dump(mode="json") for span in result.spans],
        "thinking": result.thinking,
        "pad_to_square": result.pad_to_square,
        "areas": None if result.areas is None else result.areas.model_dump(mode="json"),
    }


def _result(arrays: dict[str, Any], rest: dict[str, Any], suffix: str) -> ExplanationResult:
    """One result; its arrays are taken out of ``arrays``."""
    mine = {name: arrays.pop(name + suffix) for name in _ARRAYS}
    more = {name: arrays.pop(name + suffix) for name in OPTIONAL if name + suffix in arrays}
    areas = rest.get("areas")
    return ExplanationResult.from_scores(
        **mine,
        **more,
        **rest
        | {
            "shares": Shares.model_validate(rest["shares"]),
            "consistency": Consistency.model_validate(rest["consistency"]),
            "spans": [Span.model_validate(span) for span in rest["spans"]],
            "areas": None if areas is None else Areas.model_validate(areas),
        },
    )


def _plain(value: object) -> Any:
    """numpy's scalars in metadata, as the plain numbers that JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    raise InternalError(f"The metadata holds a {type(value).__name__}, which JSON does not know.")
