"""How a map comes about: after each layer, and by each head of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.explanation import ExplanationResult
from medgemma_tasks.geometry import grid_square
from medgemma_tasks.sheet import draw_sheet
from medgemma_worker.explaining import Answered, maps_of, passage_of, result_of
from medgemma_worker.relevancy.memory import must_checkpoint
from medgemma_worker.relevancy.trace import HeadRows, trace

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import Gemma3ForConditionalGeneration

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """One layer's heads, H of them. relevancy: float32 (H, n, rows, columns), the target's row of
    max(G * A, 0) of each head; their mean is what the layer adds to the target's own row.
    attention: the same of A."""

    layer: int
    relevancy: Floats
    attention: Floats


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """A target's maps layer by layer, for n images.

    result: as ``MedGemmaExplainer.explain`` gives it. maps: float32 (L, n, rows, columns); [l] is
    the map that the rule has made after layers 0 to l, the last one ``result.image_scores``. names:
    of the layers, "layer 5, global" for one without a window. heads: of the layer asked for.
    """

    result: ExplanationResult
    maps: Floats
    names: tuple[str, ...]
    heads: HeadMaps | None

    def sheet(self, image: Image, index: int = 0) -> Image:
        """All layers' maps over image ``index`` (the original), on one scale: a contact sheet."""
        return self._draw(image, self._of(self.maps, index), self.names, "The map after each layer")

    def head_sheet(self, image: Image, index: int = 0) -> Image:
        """The relevancy of each head over image ``index``, on one scale. Raises InvalidRequest."""
        if self.heads is None:
            raise InvalidRequest("No layer was named whose heads are wanted; give heads_of.")
        captions = [f"head {head}" for head in range(len(self.heads.relevancy))]
        title = f"Heads of {self.names[self.heads.layer]}"
        return self._draw(image, self._of(self.heads.relevancy, index), captions, title)

    def _of(self, maps: Floats, index: int) -> Floats:
        if not 0 <= index < maps.shape[1]:
            raise InvalidRequest(f"There is no image {index} among {maps.shape[1]}.")
        return np.asarray(maps[:, index])

    def _draw(self, image: Image, maps: Floats, captions: Sequence[str], title: str) -> Image:
        square = grid_square(image.width, image.height, self.result.pad_to_square)
        what = f"{title}: {self.result.spans[0].text!r}"
        return draw_sheet(image, maps, captions, square=square, title=what)


def layer_maps(
    model: Gemma3ForConditionalGeneration, answered: Answered, heads_of: int | None
) -> LayerMaps:
    """The maps of the first span, by the default method. Raises the errors of ``trace``."""
    sequence, span = answered.sequence, answered.spans[0]
    config = model.config.text_config
    last = span.token_positions[-1]
    traced = trace(
        model,
        passage_of(model, sequence),
        span.token_positions,
        heads_of=heads_of,
        checkpoint=must_checkpoint(config, last, model.dtype, model.device),
    )

    def maps(rows: torch.Tensor) -> Floats:
        return np.stack([maps_of(row, sequence, model) for row in rows])

    def heads(rows: HeadRows) -> HeadMaps:
        return HeadMaps(rows.layer, maps(rows.relevancy), maps(rows.attention))

    scores = maps(traced.layers)
    seconds = {"generating": answered.generating_seconds}
    return LayerMaps(
        result=result_of(model, answered, span, traced.row, scores[-1], seconds),
        maps=scores,
        names=traced.layer_names,
        heads=None if traced.heads is None else heads(traced.heads),
    )
