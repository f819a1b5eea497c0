"""Through the SigLIP tower and back: what each of its layers computed over one image's patches.

No attention function is registered for the tower, and its configuration stays as it was: SigLIP's
attention drops the keyword arguments of a call (transformers 5.17), so no capture would reach it,
and a layer of it is short enough to be called part by part, on SDPA. Of the pass forward the input
of each layer is kept. On the way back each layer runs once more, with a graph of its own, so that
no more than one layer's activations are held at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import Gemma3ForConditionalGeneration

from medgemma_tasks.errors import NonFiniteRelevancy
from medgemma_worker.relevancy.layer import Layer
from medgemma_worker.relevancy.visibility import Everything


class Tower:
    """One image in the tower, and the way back for any number of targets.

    Args:
        pixels: (1, 3, height, width), of any float dtype. Weights must be frozen.
    """

    def __init__(self, model: Gemma3ForConditionalGeneration, pixels: Tensor) -> None:
        self._tower: Any = model.model.vision_tower
        self._projector: Any = model.model.multi_modal_projector
        self.layers: Any = self._tower.encoder.layers
        self._inputs: list[Tensor] = []
        self._finite: list[tuple[int | None, Tensor]] = []
        with torch.no_grad():
            state = self._tower.embeddings(pixels)
            for index, layer in enumerate(self.layers):
                self._inputs.append(state)
                state = _attend(layer, state).output
                self.watch(index, state)
        self.last: Tensor = state
        """Output of the last layer, before its norm: (1, N, width)."""

    def pooled(self, gradients: Tensor) -> Tensor:
        """Back through projector and pooling: dy/d of the last layer's output, (t, N, width).

        gradients: (t, tokens, hidden), dy/d(image features) of each target.
        """
        with torch.enable_grad():
            last = self.last.detach().requires_grad_(True)
            features = self._projector(self._tower.post_layernorm(last))
        back = [
            torch.autograd.grad(features, last, one[None].to(features), retain_graph=True)[0]
            for one in gradients
        ]
        found = torch.cat(back)
        self.watch(None, found)
        return found

    def back(self, gradients: Tensor) -> Iterator[tuple[Layer, Tensor]]:
        """The layers, last first, each with dy/d(attention output) of each target: (t, N, H, D).

        gradients: (t, N, width), at the last layer's output.
        """
        for index in reversed(range(len(self.layers))):
            with torch.enable_grad():
                start = self._inputs[index].detach().requires_grad_(True)
                seen = _attend(self.layers[index], start)
            ends = [start, seen.attended]
            back = [
                torch.autograd.grad(seen.output, ends, one[None], retain_graph=True)
                for one in gradients
            ]
            gradients = torch.stack([at_start[0] for at_start, _ in back])
            self.watch(index, gradients)
            layer = Layer(
                index=index,
                q=seen.q.detach()[0],
                k=seen.k.detach()[0],
                v=seen.v.detach()[0],
                visibility=Everything(start.shape[1]),
                batch=0,
                scaling=float(self.layers[index].self_attn.scale),
                windowed=False,
            )
            yield layer, torch.stack([at_output[0].transpose(0, 1) for _, at_output in back])

    def watch(self, index: int | None, numbers: Tensor) -> None:
        """Numbers of a layer, or None for those above the last, to be looked at by ``check``."""
        self._finite.append((index, torch.isfinite(numbers).all()))

    def check(self) -> None:
        """Raises NonFiniteRelevancy for the first layer with NaN or infinity.

        Called last, so that a GPU need not wait for the CPU at each layer.
        """
        for index, finite in self._finite:
            if not bool(finite):
                where = "above the vision tower" if index is None else f"vision layer {index}"
                raise NonFiniteRelevancy(
                    f"Attention or gradient of {where} holds NaN or infinity, so there is no map. "
                    "Try dtype float32.",
                    layer=index,
                )


@dataclass(frozen=True)
class _Seen:
    """q, k, v, attended: (1, H, N, D). output: (1, N, width), of the layer."""

    q: Tensor
    k: Tensor
    v: Tensor
    attended: Tensor
    output: Tensor


def _attend(layer: Any, state: Tensor) -> _Seen:
    """One layer of SigLIP over ``state``, (1, N, width); its dropout is that of training only."""
    attention = layer.self_attn
    normed = layer.layer_norm1(state)
    q, k, v = (
        project(normed).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    attended = scaled_dot_product_attention(q, k, v, scale=attention.scale)
    state = state + attention.out_proj(attended.transpose(1, 2).flatten(2))
    output = state + layer.mlp(layer.layer_norm2(state))
    return _Seen(q, k, v, attended, output)
