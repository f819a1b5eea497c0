"""Maps as fine as the vision tower's own patches (64 x 64 for MedGemma, whose tokens are 16 x 16).

The language model's relevancy ends at the image tokens, each the mean of a window of patches. What
a token has is split over its window, in the proportions of a second map u that is carried through
the tower: u starts in equal parts, and each of the L layers, last first, hands on 1/L of it by its
own Abar (equation 5), whose rows are scaled to a sum of 1:

    u <- (1 - 1/L) u + (1/L) u Abar'

Why not equation 6 itself: Abar's row sums in the tower are so small that the identity swamps them,
and the map would be an enlarged coarse one. 1/L is ours: however deep the tower, relevancy moves by
one step of attention on average. A window keeps the relevancy of its token.

What it is worth, by ``benchmarks/patches.py`` on phantoms, whose tower has two layers and windows
of 2 x 2: uneven within windows, and with a meaning there (the same numbers shuffled within windows
do worse on both curves); better than the enlarged coarse map in deletion, worse in insertion; not
to be told apart from the coarse map enlarged bilinearly on either. The other ways that were tried
are kept there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration

from medgemma_worker.relevancy.layer import Layer
from medgemma_worker.relevancy.tower import Tower
from medgemma_worker.relevancy.windows import spread


def patch_maps(
    model: Gemma3ForConditionalGeneration, pixels: Tensor, scores: Tensor, gradients: Tensor
) -> Tensor:
    """Maps of t targets over the patches of n images: float32 (t, n, rows, columns), on the CPU.

    All targets share the pass forward, and for each image alone; memory is that of one image and
    one layer, whatever n.

    Args:
        pixels: (n, 3, height, width), as the model got them.
        scores: float32 (t, n, tokens), relevancy at the image tokens.
        gradients: (t, n, tokens, hidden), dy/d(image features), see ``RelevancyRow.gradient``.

    Raises NonFiniteRelevancy with the number of the tower's layer.
    """
    targets, images, _ = scores.shape
    patches = int(model.model.multi_modal_projector.patches_per_image)
    maps = torch.zeros(targets, images, patches, patches)
    for i in range(images):
        totals = scores[:, i].to(pixels.device, torch.float32)
        if totals.any():  # not for an image that comes after the targets
            tower = Tower(model, pixels[i : i + 1])
            even = spread(totals, torch.ones(patches**2, device=totals.device))
            shapes = _carried(tower, gradients[:, i], even)
            maps[:, i] = spread(totals, shapes).view(targets, patches, patches).cpu()
    return maps


def step(layer: Layer, gradient: Tensor, shape: Tensor, layers: int) -> Tensor:
    """One layer's hand-on of a map, float32 (N,); gradient: dy/dO, (N, H, D)."""
    return torch.lerp(shape, layer.shared_out(shape, gradient), 1 / layers)


def _carried(tower: Tower, at_features: Tensor, shapes: Tensor) -> Tensor:
    """Maps, float32 (t, N), from the last layer of the tower to its first."""
    count = len(tower.layers)
    for layer, gradients in tower.back(tower.pooled(at_features)):
        pairs = zip(gradients, shapes, strict=True)
        shapes = torch.stack([step(layer, gradient, shape, count) for gradient, shape in pairs])
        tower.watch(layer.index, shapes)
    tower.check()
    return shapes
