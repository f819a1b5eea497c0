"""The published JSON Schemas of request.json and result.json: ``python -m medgemma_tasks.schema``.

They stand in ``schemas/`` beside this file, for readers in other languages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from medgemma_tasks.models import ExplanationRecord, ExplanationRequest

FOLDER = Path(__file__).parent / "schemas"

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PUBLISHED: dict[str, type[BaseModel]] = {
    "request.schema.json": ExplanationRequest,
    "result.schema.json": ExplanationRecord,
}


def schemas() -> dict[str, dict[str, Any]]:
    """Each published schema by its file name: JSON Schema, draft 2020-12."""
    # Of what is written, where every field is present, not of what would be accepted.
    return {
        name: {"$schema": _DIALECT, **model.model_json_schema(mode="serialization")}
        for name, model in _PUBLISHED.items()
    }


def text(schema: dict[str, Any]) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all schemas anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (FOLDER / name).write_text(text(schema), encoding="utf-8")


if __name__ == "__main__":
    main()
