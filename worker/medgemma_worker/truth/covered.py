"""The image tokens of wholly covered images: what integrated gradients start from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from medgemma_worker.truth.perturb import Covering

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor


@torch.no_grad()
def covered_tokens(
    model: Gemma3ForConditionalGeneration, processor: Gemma3Processor, images: Sequence[Image]
) -> torch.Tensor | None:
    """(n, tokens, hidden), of the images blurred; None without images.

    images: as the processor gets them, that is already padded to a square if they were.
    """
    if not images:
        return None
    blurred = Covering(images, "blur").show(np.zeros((len(images), 1, 1), dtype=np.bool_))
    pixels = processor.image_processor(images=blurred, return_tensors="pt")["pixel_values"]
    pixels = pixels.to(model.device, model.dtype)
    found: torch.Tensor = model.model.get_image_features(pixels, return_dict=True).pooler_output
    return found
