"""docs/tutorial.ipynb, made from docs/tutorial.py: ``python -m tests.docs.tutorial`` runs it, and
writes it with what its cells gave."""

from __future__ import annotations

import base64
import io
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

DOCS = Path(__file__).resolve().parents[2] / "docs"
SOURCE, NOTEBOOK = DOCS / "tutorial.py", DOCS / "tutorial.ipynb"

WIDEST = 480
"""Pixels of a picture as it is kept: a notebook of pictures would be megabytes."""

CELL_SECONDS = 180


def notebook() -> Any:
    """The cells of the source, without outputs; the same each time."""
    cells = []
    for number, cell in enumerate(re.split(r"^# %%", SOURCE.read_text(), flags=re.MULTILINE)[1:]):
        head, _, body = cell.partition("\n")
        if head.strip() == "[markdown]":
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines())
            made = new_markdown_cell(text.strip())  # type: ignore[no-untyped-call]
        else:
            made = new_code_cell(body.strip())  # type: ignore[no-untyped-call]
        made.id = f"cell-{number}"
        cells.append(made)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})  # type: ignore[no-untyped-call]


def execute(book: Any, folder: Path) -> Any:
    """Run all cells in a folder. Raises CellExecutionError; the kernel is gone in any case."""
    client = NotebookClient(
        book, timeout=CELL_SECONDS, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return book


def lighten(book: Any) -> Any:
    """Small pictures, and nothing of when and where the cells ran."""
    book.metadata.pop("language_info", None)
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/jpeg"] = _small(data.pop("image/png"))
                data["text/plain"] = "A picture"
    return book


def _small(encoded: str) -> str:
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        picture = image.convert("RGB")
    if picture.width > WIDEST:
        height = round(picture.height * WIDEST / picture.width)
        picture = picture.resize((WIDEST, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = lighten(execute(notebook(), Path(folder)))
    nbformat.write(made, NOTEBOOK)  # type: ignore[no-untyped-call]
    print(f"{NOTEBOOK.name}: {NOTEBOOK.stat().st_size:,} bytes")
