"""The GPU side: the model, its relevancy, and the Celery worker.

Importing this package loads no torch: the parent of a worker must never touch CUDA. The two public
names are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medgemma_worker.explainer import MedGemmaExplainer
    from medgemma_worker.loading import load_medgemma

__all__ = ["MedGemmaExplainer", "load_medgemma"]


def __getattr__(name: str) -> Any:
    if name == "MedGemmaExplainer":
        from medgemma_worker.explainer import MedGemmaExplainer

        return MedGemmaExplainer
    if name == "load_medgemma":
        from medgemma_worker.loading import load_medgemma

        return load_medgemma
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
