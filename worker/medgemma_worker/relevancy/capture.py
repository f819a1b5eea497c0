"""Watching one forward pass, so that its backward pass feeds the methods, layer by layer."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from medgemma_tasks.errors import NonFiniteRelevancy
from medgemma_worker.relevancy.layer import Block, Layer
from medgemma_worker.relevancy.methods.base import Method
from medgemma_worker.relevancy.visibility import Visibility


class LayerCapture:
    """Hooks each attention output; see ``attention.Capture``.

    Everything happens in the hooks, which fire last layer first: with checkpointing q, k and v
    exist only then. A hook closes over its capture, since on CUDA it runs in a thread of autograd's
    own, where context variables are absent.

    Args:
        windowed: for each layer whether it has a window.
        keep: keep each recomputed attention for the targets that follow.
    """

    def __init__(self, windowed: Sequence[bool], keep: bool = False) -> None:
        self._windowed = windowed
        self._keep = keep
        self._kept: dict[tuple[int, int], dict[tuple[int, int], Block]] = defaultdict(dict)
        self._methods: Sequence[Sequence[Method]] = ()
        self._finite: dict[int, Tensor] = {}

    def begin(self, methods: Sequence[Sequence[Method]]) -> None:
        """Before each backward pass: the methods of each sequence of the batch."""
        self._methods = methods
        self._finite = {}

    def watch(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        visibility: Visibility,
        scaling: float,
        output: Tensor,
    ) -> None:
        """See ``attention.Capture``. The first pass of a checkpointed layer has no graph."""
        if output.requires_grad:
            output.register_hook(  # type: ignore[no-untyped-call]
                functools.partial(
                    self._reached,
                    layer,
                    query.detach(),
                    key.detach(),
                    value.detach(),
                    visibility,
                    scaling,
                )
            )

    def _reached(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        visibility: Visibility,
        scaling: float,
        gradient: Tensor,
    ) -> None:
        finite = torch.ones((), dtype=torch.bool, device=gradient.device)
        with torch.no_grad():
            for b, methods in enumerate(self._methods):
                here = Layer(
                    index=layer,
                    q=q[b],
                    k=k[b],
                    v=v[b],
                    visibility=visibility,
                    batch=b,
                    scaling=scaling,
                    windowed=self._windowed[layer],
                    kept=self._kept[layer, b] if self._keep else None,
                )
                for method in methods:
                    finite = finite & torch.isfinite(method.reach(here, gradient[b])).all()
        # Looked at after the pass, so that a GPU need not wait for the CPU at each layer.
        self._finite[layer] = finite

    def check(self) -> None:
        """After a backward pass: every layer must have been reached, with finite numbers."""
        for layer in reversed(range(len(self._windowed))):  # the order of the backward pass
            if layer not in self._finite:
                raise NonFiniteRelevancy(
                    f"The backward pass never reached layer {layer}; the map would be incomplete.",
                    layer=layer,
                )
            if not bool(self._finite[layer]):
                raise NonFiniteRelevancy(
                    f"Attention or gradient of layer {layer} holds NaN or infinity, so there is "
                    "no map. Try dtype float32.",
                    layer=layer,
                )
