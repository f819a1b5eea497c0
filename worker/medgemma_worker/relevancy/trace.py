"""How one target's map comes about: layer by layer, and head by head within one layer.

After layers 0..l the rule (equations 5 and 6 of Chefer, Gur, Wolf, ICCV 2021; see
``methods/chefer.py``) has made

    R_l = (I + Abar_l) ... (I + Abar_0)

The target's row of it, w^T R_l, starts as w at layer l and takes that layer and all before it, last
first. So one backward pass gives the rows of all layers: reaching layer l begins a row, and every
row that was begun takes the layer. Abar is that of the whole model throughout: G is the gradient of
the target's logit, not of anything read off at layer l.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration

from medgemma_tasks.errors import InvalidRequest
from medgemma_worker.relevancy.explain import RAW, Passage, RelevancyRow, explain
from medgemma_worker.relevancy.layer import Layer
from medgemma_worker.relevancy.methods import DEFAULT
from medgemma_worker.relevancy.methods.base import Method, Target


@dataclass(frozen=True)
class HeadRows:
    """The target's rows in one layer, for each of its H heads, over S positions; on the CPU.

    relevancy: float32 (H, S), w^T max(G_h * A_h, 0). attention: float32 (H, S), w^T A_h. Means over
    heads of the first give w^T Abar, what the layer alone adds to the target's own row.
    """

    layer: int
    relevancy: Tensor
    attention: Tensor


@dataclass(frozen=True)
class Trace:
    """One target's row as it builds up. Layers and heads count from 0.

    row: as ``explain`` gives it, by the default method and raw attention, but for last digits.
    layers: float32 (L, S) on the CPU; [l] is the target's row of R after layers 0..l, without the
    identity. [L-1] is ``row.gained``.
    windowed: for each layer whether it has a window.
    heads: of the layer asked for, or None.
    """

    row: RelevancyRow
    layers: Tensor
    windowed: tuple[bool, ...]
    heads: HeadRows | None

    @property
    def layer_names(self) -> tuple[str, ...]:
        """ "layer 0, local" and so on, for captions; global are the layers without a window."""
        return tuple(
            f"layer {index}, {'local' if local else 'global'}"
            for index, local in enumerate(self.windowed)
        )


def trace(
    model: Gemma3ForConditionalGeneration,
    passage: Passage,
    positions: Sequence[int],
    *,
    heads_of: int | None = None,
    checkpoint: bool = False,
) -> Trace:
    """``explain`` for one target of one passage, kept layer by layer.

    Args:
        positions: ascending, each at least 1, as for ``explain``.
        heads_of: a layer, from 0, whose heads are wanted too.
        checkpoint: as for ``explain``.

    Raises NonFiniteRelevancy; InvalidRequest for a layer that does not exist.
    """
    kinds = model.config.text_config.layer_types
    if heads_of is not None and not 0 <= heads_of < len(kinds):
        raise InvalidRequest(
            f"There is no layer {heads_of}; the model has layers 0 to {len(kinds) - 1}."
        )
    tracers: dict[str, Callable[[Target], Method]] = {"layers": BuildUp}
    if heads_of is not None:
        tracers["heads"] = partial(Heads, index=heads_of)
    found = explain(
        model, [passage], [[positions]], methods=(RAW,), checkpoint=checkpoint, tracers=tracers
    )[0][0]
    layers = found.rows["layers"]
    heads = None
    if heads_of is not None:
        relevancy, attention = found.rows["heads"]
        heads = HeadRows(heads_of, relevancy, attention)
    rows = {DEFAULT: layers[-1], RAW: found.attention}
    return Trace(
        row=RelevancyRow(rows, found.own, found.checked, found.misses),
        layers=layers,
        windowed=tuple(kind == "sliding_attention" for kind in kinds),
        heads=heads,
    )


class BuildUp:
    """``Chefer`` for the first layer, the first two, ... and all of them: float32 (L, S)."""

    def __init__(self, target: Target) -> None:
        self._weights = target.weights
        # Apart from the identity, as there.
        self._gained = target.weights.new_zeros((target.layers, target.weights.numel()))

    def reach(self, layer: Layer, gradient: Tensor) -> Tensor:
        begun = self._gained[layer.index :]
        gain = layer.weighted_relevancy(self._weights + begun, gradient)
        begun += gain
        return gain

    def finish(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        return self._gained


class Heads:
    """The target's rows of gradient-weighted and of plain attention by head: float32 (2, H, S)."""

    def __init__(self, target: Target, index: int) -> None:
        self._weights = target.weights
        self._index = index
        self._rows = target.weights.new_zeros((2, 0, target.weights.numel()))

    def reach(self, layer: Layer, gradient: Tensor) -> Tensor:
        if layer.index != self._index:
            return torch.zeros_like(self._weights)
        self._rows = torch.stack(layer.heads(self._weights, gradient))
        return self._rows

    def finish(self, embeddings: Tensor, gradient: Tensor) -> Tensor:
        return self._rows
