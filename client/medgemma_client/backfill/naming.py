"""The name of a run: of what it asks, and of no file; and how many rows it may have."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medgemma_client.backfill.rows import Defaults
from medgemma_tasks.errors import FileUnreadable
from medgemma_tasks.models import ServedModel

Source = str | os.PathLike[str] | Iterable[Mapping[str, Any]]
"""A manifest: a file, or its records."""

_PIECE = 2**20


@dataclass(frozen=True)
class Named:
    run: str
    rows: int | None
    """About so many; None where nobody knows before the end."""
    base: Path
    """What relative paths start from."""
    place: str
    """Stands for that folder and the model: a row is another one where it changed."""


def name_run(source: Source, defaults: Defaults, served: ServedModel) -> Named:
    """A run is another one where a byte of its manifest is, or the folder that paths start from,
    a default, or the model: its jobs would be others. Records that come one by one have no such
    name, and get one by chance. Raises FileUnreadable."""
    digest = hashlib.sha256()
    rows = None
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        base = path.absolute().parent
        rows = _read(path, digest)
    else:
        base = Path.cwd()
        if isinstance(source, Sequence):
            rows = len(source)
            for record in source:
                digest.update(json.dumps(record, default=str, sort_keys=True).encode())
        else:
            digest.update(secrets.token_bytes(16))
    model = [served.name, served.revision, served.method, served.method_version]
    place = json.dumps([str(base.resolve()), model])
    digest.update(json.dumps([place, asdict(defaults)], sort_keys=True).encode())
    return Named(f"run-{digest.hexdigest()[:16]}", rows, base, place)


def _read(path: Path, digest: hashlib._Hash) -> int | None:
    lines = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                lines += piece.count(b"\n")
    except (OSError, ValueError) as error:
        raise FileUnreadable(
            f"The manifest cannot be read ({type(error).__name__}). Check its path and permissions."
        ) from None
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return max(lines - 1, 0)
    return lines if suffix in (".jsonl", ".ndjson") else None
