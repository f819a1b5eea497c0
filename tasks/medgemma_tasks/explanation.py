"""The result of one explanation as numbers: relevancy as computed, and scaled for display.

Two kinds of numbers stand side by side and must not be mixed up. `image_scores` and `text_scores`
are the relevancy as computed. `image_relevancy` and `text_relevancy` are the same scaled to 0..1 by
their smallest and largest value, for drawing; what they lose is how much there was at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from medgemma_tasks.colours import scale_to_unit
from medgemma_tasks.errors import (
    InternalError,
    InvalidRequest,
    NonFiniteRelevancy,
)
from medgemma_tasks.geometry import grid_square
from medgemma_tasks.models import Areas, Consistency, Shares, Span
from medgemma_tasks.pictures import Side, draw_overlay, peak_cell

Floats: TypeAlias = NDArray[np.float32]

ROLES = ("prompt", "answer", "special")

RAW = ("raw_image_relevancy", "raw_text_relevancy")
OPTIONAL = (*RAW, "patch_scores")


@dataclass(frozen=True, eq=False, repr=False)
class ExplanationResult:
    """One target of one answer, explained. n images of rows x columns cells; t text tokens.

    Make one with `from_scores`, which computes the scaled fields. Raises `InternalError` where
    shapes do not agree and `NonFiniteRelevancy` for NaN or infinity.
    """

    image_relevancy: Floats
    """float32 (rows, columns) for one image, (n, rows, columns) for more: 0..1, on one scale."""
    text_relevancy: Floats
    """float32 (t,), 0..1 over the `ordinary` tokens; all others are clipped to their scale."""
    token_labels: list[str]
    generated_text: str
    raw_image_relevancy: Floats | None
    """The raw-attention baseline for comparison, unscaled, shaped as `image_scores`."""
    raw_text_relevancy: Floats | None
    """The raw-attention baseline, unscaled, shaped as `text_scores`."""
    metadata: dict[str, Any]
    """Plain JSON values: seq_len, num_layers, input_len, prompt, target_token,
    target_token_position, logit_position and more."""

    image_scores: Floats
    """float32 (n, rows, columns), as computed."""
    text_scores: Floats
    """float32 (t,), as computed."""
    text_positions: NDArray[np.int64]
    """int64 (t,): position of each text token in the whole sequence, from 0."""
    text_roles: list[str]
    """(t,) of "prompt", "answer" and "special" (turn markers, <bos> and their kin)."""
    own_relevancy: float
    """What the target's own position holds, the identity subtracted."""
    shares: Shares
    consistency: Consistency
    spans: tuple[Span, ...]
    thinking: str | None = None
    pad_to_square: bool = True
    """Whether the images were padded to a square: it decides where the grid lies on them."""
    areas: Areas | None = None
    """How true the map is, where that was measured."""
    patch_scores: Floats | None = None
    """float32 (n, patch rows, patch columns), as computed: each image token's relevancy spread over
    the vision tower's patches under it, where that was asked for."""

    def __post_init__(self) -> None:
        images, tokens = self.image_scores, len(self.token_labels)
        _agree("image_scores", images.ndim == 3 and images.size > 0, images.shape)
        expected = images.shape[1:] if len(images) == 1 else images.shape
        _agree(
            "image_relevancy", self.image_relevancy.shape == expected, self.image_relevancy.shape
        )
        for name in ("text_relevancy", "text_scores", "text_positions"):
            shape = getattr(self, name).shape
            _agree(name, shape == (tokens,), shape)
        _agree("text_roles", len(self.text_roles) == tokens, (len(self.text_roles),))
        _agree("text_roles", set(self.text_roles) <= set(ROLES), set(self.text_roles))
        for raw, scores in zip(RAW, (images, self.text_scores), strict=True):
            value = getattr(self, raw)
            _agree(raw, value is None or value.shape == scores.shape, np.shape(value))
        fine = self.patch_scores
        _agree(
            "patch_scores",
            fine is None or (fine.ndim == 3 and fine.size > 0 and len(fine) == len(images)),
            None if fine is None else fine.shape,
        )
        for name in ("image_scores", "text_scores", *OPTIONAL):
            value = getattr(self, name)
            if value is not None and not np.isfinite(value).all():
                raise NonFiniteRelevancy(f"{name} holds NaN or infinity.")

    @classmethod
    def from_scores(
        cls,
        *,
        image_scores: ArrayLike,
        text_scores: ArrayLike,
        text_positions: ArrayLike,
        text_roles: Sequence[str],
        token_labels: Sequence[str],
        generated_text: str,
        own_relevancy: float,
        shares: Shares,
        consistency: Consistency,
        spans: Sequence[Span],
        metadata: dict[str, Any],
        thinking: str | None = None,
        pad_to_square: bool = True,
        raw_image_relevancy: ArrayLike | None = None,
        raw_text_relevancy: ArrayLike | None = None,
        areas: Areas | None = None,
        patch_scores: ArrayLike | None = None,
    ) -> ExplanationResult:
        """A result from relevancy as computed: image_scores (n, rows, columns), text_scores (t,).

        `image_relevancy` is scaled by `display_range`, `text_relevancy` by `text_range`. A flat
        range becomes zeros.
        """
        images = np.array(image_scores, dtype=np.float32)
        texts = np.array(text_scores, dtype=np.float32)
        roles = list(text_roles)
        _agree("image_scores", images.ndim == 3 and images.size > 0, images.shape)
        _agree("text_roles", texts.shape == (len(roles),), (len(roles),))
        if not (np.isfinite(images).all() and np.isfinite(texts).all()):
            raise NonFiniteRelevancy("The relevancy holds NaN or infinity.")
        scaled = scale_to_unit(images, *display_range(images))
        positions = np.array(text_positions, dtype=np.int64)
        _agree("text_positions", positions.shape == texts.shape, positions.shape)
        scale = text_range(texts, ordinary(positions.tolist(), roles, spans))
        return cls(
            image_relevancy=scaled[0] if len(images) == 1 else scaled,
            text_relevancy=scale_to_unit(texts, *scale),
            token_labels=list(token_labels),
            generated_text=generated_text,
            raw_image_relevancy=_floats(raw_image_relevancy),
            raw_text_relevancy=_floats(raw_text_relevancy),
            metadata=dict(metadata),
            image_scores=images,
            text_scores=texts,
            text_positions=positions,
            text_roles=roles,
            own_relevancy=float(own_relevancy),
            shares=shares,
            consistency=consistency,
            spans=tuple(spans),
            thinking=thinking,
            pad_to_square=pad_to_square,
            areas=areas,
            patch_scores=_floats(patch_scores),
        )

    def peak_cell(self, index: int = 0) -> tuple[int, int]:
        """Row and column of the largest score of an image."""
        return peak_cell(self._map(index))

    def overlay(
        self,
        image: Image.Image,
        index: int = 0,
        *,
        left_of_image: Side = "unknown",
        opacity: float = 0.5,
        fine: bool = False,
    ) -> Image.Image:
        """The map of image `index` over that image, on the scale that all images share.

        image: the original, as it was explained, before any padding. fine: the map over patches.
        """
        self._map(index)
        maps = self.image_scores
        if fine:
            if self.patch_scores is None:
                raise InvalidRequest("There is no finer map; ask for one by resolution='patch'.")
            maps = self.patch_scores
        low, high = display_range(maps)
        return draw_overlay(
            image,
            maps[index],
            square=grid_square(image.width, image.height, self.pad_to_square),
            low=low,
            high=high,
            left_of_image=left_of_image,
            opacity=opacity,
        )

    def _map(self, index: int) -> Floats:
        if not 0 <= index < len(self.image_scores):
            raise InvalidRequest(f"There is no image {index} among {len(self.image_scores)}.")
        return np.asarray(self.image_scores[index])


def display_range(image_scores: Floats) -> tuple[float, float]:
    """Smallest and largest score over all images: one scale, so that images can be compared."""
    return float(np.min(image_scores)), float(np.max(image_scores))


def ordinary(
    positions: Sequence[int], roles: Sequence[str], spans: Iterable[Span]
) -> NDArray[np.bool_]:
    """Which text tokens belong on a scale: bool (t,).

    Not the special ones: <bos> and turn markers draw attention that says nothing about the words.
    Nor the target's own positions p-1, which hold what they gained from themselves. Either would
    push all the others to the bottom of the scale.
    """
    own = {p - 1 for span in spans for p in span.token_positions}
    pairs = zip(positions, roles, strict=True)
    return np.array([role != "special" and p not in own for p, role in pairs], dtype=np.bool_)


def text_range(text_scores: Floats, on_scale: NDArray[np.bool_]) -> tuple[float, float]:
    """Smallest and largest score of the `ordinary` tokens; (0, 0) where there are none."""
    scores = text_scores[on_scale]
    return (float(scores.min()), float(scores.max())) if scores.size else (0.0, 0.0)


def _floats(values: ArrayLike | None) -> Floats | None:
    return None if values is None else np.array(values, dtype=np.float32)


def _agree(name: str, holds: bool, found: object) -> None:
    if not holds:
        raise InternalError(f"{name} does not fit the rest of the explanation: {found}.")
