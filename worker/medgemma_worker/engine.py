"""What turns a request and its images into an explanation, as the queue side sees it.

The queue side knows this protocol and nothing of torch; tests hand it a stub.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from medgemma_tasks.errors import InvalidSettings, MedGemmaError
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
cancelled job)."""

Tell = Callable[[float], None]
"""Called at each step of explanations with the progress from 0 to 1. It may raise (a cancelled
job): the engine lets that pass."""

TellBatch = Callable[[Sequence[float]], Collection[int]]
"""Called at each step of a batch with the progress of each from 0 to 1. It gives the places of
those that nobody wants any more, which stop there; it may raise, which ends all of them."""

Prepared: TypeAlias = Any
"""A question as the engine's ``answer`` takes it. Opaque to the queue side, as the two below."""
Answered: TypeAlias = Any
"""A question with its answer, as ``explain`` takes it."""
Found: TypeAlias = Any
"""An explanation as ``finish`` takes it."""


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
    answer_tokens: int = 0
    """How many were generated for the answer."""


class Engine(Protocol):
    """One loaded model.

    A job goes through ``prepare``, ``answer``, ``explain`` and ``finish``. The second and the third
    use the device, and are called by one thread alone; the others may be called by several threads
    at once, beside it. Each raises MedGemmaError for whatever is wrong with the request.
    """

    @property
    def served(self) -> ServedModel:
        """What this engine serves, as published in ``models/<name>.json``."""

    def prepare(self, request: ExplanationRequest, images: Sequence[Image]) -> Prepared:
        """Texts and pictures made ready for the model."""

    @property
    def together(self) -> int:
        """How many answers it explains together at most."""

    def length(self, asked: Prepared) -> int:
        """How many tokens its answer may have; 0 where it is given. Batches are made by it."""

    def weight(self, answered: Answered) -> int:
        """What explaining it takes, in proportion to others, and at least 1."""

    def answer(
        self, asked: Sequence[Prepared], tell: TellBatch
    ) -> Sequence[Answered | MedGemmaError]:
        """Answer some questions together: each gets what it would get alone, or its own error.

        KeywordNotInAnswer carries the answer in its details, so that it is kept. Raises
        OutOfMemory for all of them, where they are too many at once.
        """

    def explain(self, answered: Sequence[Answered], tell: Tell) -> Sequence[Found]:
        """Explain some answers together: each gets what it would get alone.

        Raises OutOfMemory where they are too many at once; whatever else is wrong with one of them
        is raised for all.
        """

    def finish(self, found: Found) -> Explained:
        """What is to be stored: pictures, arrays, and what the record says of them."""


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
