"""Weight randomisation: a map that stays when the model forgets all it knew is not of the model.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, *Sanity Checks for Saliency Maps*, NeurIPS 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import Gemma3ForConditionalGeneration


@contextmanager
def randomised_text_layers(model: Gemma3ForConditionalGeneration, seed: int) -> Iterator[None]:
    """Every matrix of the text model's layers is noise within; the true weights are back after.

    Normal noise of each matrix's own mean and deviation, so that activations keep their size.
    Norms, embeddings and the vision tower stay. The true weights wait in the CPU's memory.
    """
    matrices = [p for p in model.model.language_model.layers.parameters() if p.ndim > 1]
    kept = [p.detach().to("cpu", copy=True) for p in matrices]
    generator = torch.Generator().manual_seed(seed)
    try:
        with torch.no_grad():
            for weight in matrices:
                noise = torch.randn(weight.shape, generator=generator)
                mean, deviation = float(weight.float().mean()), float(weight.float().std())
                weight.copy_(noise * deviation + mean)
        yield
    finally:
        with torch.no_grad():
            for weight, true in zip(matrices, kept, strict=True):
                weight.copy_(true)
