"""log p of frozen target tokens, for images with cells covered; nothing is generated again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgemma_worker.truth.perturb import Cells, Covering

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

BATCH = 8
"""Variants of a question in one forward pass."""


class Scorer:
    """Scores variants of the images of one question; each different variant once.

    Args:
        token_ids, kinds: int64 (T,), the prompt with its answer; kinds is 1 on image tokens.
        positions: the target's tokens, ascending. What follows the last of them is left out, as it
            cannot influence it.
        covering: the images, as the processor gets them.
    """

    def __init__(
        self,
        model: Gemma3ForConditionalGeneration,
        processor: Gemma3Processor,
        token_ids: Tensor,
        kinds: Tensor,
        positions: Sequence[int],
        covering: Covering,
        *,
        batch: int = BATCH,
    ) -> None:
        length = positions[-1]
        self._model, self._processor = model, processor
        self._covering, self._batch = covering, batch
        self._kinds = kinds[None, :length].to(model.device)
        self._rows = torch.tensor([p - 1 for p in positions], device=model.device)
        self._targets = token_ids[list(positions)].to(model.device)
        ids = token_ids[None, :length].to(model.device)
        with torch.no_grad():
            # The image token may lie beyond the embedding table, as it does in some checkpoints.
            self._text: Tensor = model.get_input_embeddings()(ids.masked_fill(self._kinds == 1, 0))
        self._known: dict[bytes, float] = {}

    def log_p(self, variants: Sequence[Cells]) -> NDArray[np.float64]:
        """Natural log of p(target | prefix, image), (variants,).

        Methods agree on many first cells, so a variant that was scored before is not run again.
        """
        keys = [np.packbits(cells).tobytes() for cells in variants]
        new = {
            key: cells for key, cells in zip(keys, variants, strict=True) if key not in self._known
        }
        waiting = list(new.items())
        for first in range(0, len(waiting), self._batch):
            chunk = waiting[first : first + self._batch]
            values = self._forward([self._covering.show(cells) for _, cells in chunk])
            self._known.update(zip((key for key, _ in chunk), values.tolist(), strict=True))
        return np.array([self._known[key] for key in keys], dtype=np.float64)

    @torch.no_grad()
    def _forward(self, variants: Sequence[Sequence[Image]]) -> Tensor:
        model = self._model
        images = [image for variant in variants for image in variant]
        pixels = self._processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
        pixels = pixels.to(model.device, model.dtype)
        features = model.model.get_image_features(pixels, return_dict=True).pooler_output
        count = len(variants)
        kinds = self._kinds.expand(count, -1)
        text = self._text.expand(count, -1, -1)
        embeddings = text.masked_scatter((kinds == 1)[..., None], features.to(text))
        logits = model(
            inputs_embeds=embeddings,
            token_type_ids=kinds,
            use_cache=False,
            logits_to_keep=self._rows,
        ).logits
        log_p = torch.log_softmax(logits.float(), dim=-1)
        targets = self._targets.expand(count, -1)[..., None]
        return log_p.gather(-1, targets)[..., 0].double().sum(dim=-1).cpu()
