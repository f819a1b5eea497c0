"""What turns a request and its images into an explanation, as the queue side sees it.

The queue side knows this protocol and nothing of torch; tests hand it a stub.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from medgemma_tasks.errors import InvalidSettings
from medgemma_tasks.models import (
    Consistency,
    ExplanationRequest,
    ImageGrid,
    ModelRecord,
    ServedModel,
    Stage,
    TargetRecord,
    Token,
)
from medgemma_tasks.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

Report = Callable[[Stage, float], None]
"""Called at each stage boundary with the stage and the progress from 0 to 1. It may raise (a
cancelled job): the engine lets that pass."""


@dataclass(frozen=True, repr=False)
class File:
    """An artifact not yet stored."""

    content: bytes
    content_type: str


@dataclass(frozen=True, repr=False)
class Explained:
    """An explanation, ready to be stored: the fields of ExplanationRecord that the engine knows."""

    answer: str
    answer_given: bool
    thinking: str | None
    targets: tuple[TargetRecord, ...]
    images: tuple[ImageGrid, ...]
    tokens: tuple[Token, ...]
    consistency: Consistency
    model: ModelRecord
    seconds: dict[str, float]
    peak_memory_bytes: int | None
    files: dict[str, File] = field(repr=False)


@dataclass(frozen=True)
class Cost:
    """What a question takes: tokens of its prompt, images among them, and at most of its answer (0
    new ones where the answer is given)."""

    prompt_tokens: int
    new_tokens: int


class Engine(Protocol):
    """One loaded model."""

    @property
    def served(self) -> ServedModel:
        """What this engine serves, as published in ``models/<name>.json``."""

    def explain(
        self, request: ExplanationRequest, images: Sequence[Image], report: Report
    ) -> Explained:
        """Answer and explain one request.

        Raises MedGemmaError for whatever is wrong with the request; KeywordNotInAnswer carries
        the answer in its details, so that it is kept.
        """


def load_engine(settings: Settings) -> Engine:
    """The engine that ``settings.engine`` names (``module:function``)."""
    module, _, function = settings.engine.partition(":")
    try:
        loader = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError):
        raise InvalidSettings(
            f"MEDGEMMA_ENGINE is {settings.engine!r}, which cannot be imported; "
            "use module:function, or leave it unset."
        ) from None
    engine: Engine = loader(settings)
    return engine
