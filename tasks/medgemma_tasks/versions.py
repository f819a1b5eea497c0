"""Reading what the release before this one wrote: schema 1, as if it had been written as schema 2.

Schema 1 had one target a job, and said of it in the record's own fields what schema 2 says in the
target's. Nothing is lost on the way, and nothing is made up.
"""

from __future__ import annotations

import json
from typing import Any

from medgemma_tasks.models import ExplanationRecord, ExplanationRequest

_GRID = ("image", "rows", "columns", "square", "heatmap", "overlay")
_MAP = ("share", "peak_cell")


def read_request(content: bytes) -> ExplanationRequest:
    """A request of this schema or the one before. Raises ValueError (pydantic's is one)."""
    data = json.loads(content)
    if _version(data) == 1:
        target = data.pop("target", {"kind": "answer"})
        data |= {"schema_version": 2, "targets": [target]}
    return ExplanationRequest.model_validate(data)


def read_record(content: bytes) -> ExplanationRecord:
    """A result of this schema or the one before. Raises ValueError (pydantic's is one)."""
    data = json.loads(content)
    if _version(data) == 1:
        try:
            data = _record(data)
        except (KeyError, TypeError, IndexError, AttributeError):
            raise ValueError("this is no result of schema 1") from None
    return ExplanationRecord.model_validate(data)


def _version(data: Any) -> Any:
    return data.get("schema_version") if isinstance(data, dict) else None


def _record(data: dict[str, Any]) -> dict[str, Any]:
    data = dict(data)
    spans, images, tokens = (data.pop(name, []) for name in ("targets", "images", "tokens"))
    shares, own = data.pop("shares", None), data.pop("own_relevancy", None)
    targets = [
        {
            "span": span,
            "scores": [token["score"] for token in tokens],
            "shares": shares,
            "own_relevancy": own,
            "low": images[0]["low"],
            "high": images[0]["high"],
            "maps": [{name: image[name] for name in _MAP} for image in images],
        }
        for span in spans
    ]
    return data | {
        "schema_version": 2,
        "targets": targets,
        "images": [{name: image[name] for name in _GRID} for image in images],
        "tokens": [{k: v for k, v in token.items() if k != "score"} for token in tokens],
    }
