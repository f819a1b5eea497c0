"""Checkpointing of the text layers: activations of one layer at a time, for one forward more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def checkpointed(layers: nn.ModuleList, wanted: bool) -> Iterator[None]:
    """Each layer recomputes itself when the backward pass reaches it.

    transformers checkpoints layers in train mode only; so the layers themselves, and nothing in
    them, are said to train (Gemma 3 has no dropout outside of attention, whose modules stay in eval
    mode). Reentrant: the non-reentrant kind would keep alive what a hook closes over. One
    explanation at a time for a model, or another thread would see this.
    """
    if not wanted:
        yield
        return
    of_layers: list[Any] = list(layers)
    before = [layer.training for layer in of_layers]
    for layer in of_layers:
        layer.training = True
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=True)
    try:
        yield
    finally:
        for layer, training in zip(of_layers, before, strict=True):
            layer.training = training
            layer.gradient_checkpointing = False
            del layer._gradient_checkpointing_func
