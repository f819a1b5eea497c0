"""A sequence as long as a volume is explained without anything of its square."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import Passage, explain
from medgemma_worker.relevancy.visibility import DENSE_LENGTH, Visibility
from tests.worker.tiny import tiny_model

LENGTH = 8192


class Largest(TorchDispatchMode):
    """The most elements that storage of any result has."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                size = leaf.untyped_storage().nbytes() // leaf.element_size()
                self.elements = max(self.elements, size)
        return out


def test_8192_positions_are_explained_without_any_square(monkeypatch: pytest.MonkeyPatch) -> None:
    def square(self: Visibility) -> torch.Tensor:
        raise AssertionError("a dense mask was made")

    monkeypatch.setattr(Visibility, "dense", square)
    model = tiny_model(layers=6, heads=2, kv_heads=1, window=128)  # the last has no window
    install(model)
    assert LENGTH > DENSE_LENGTH
    kinds = torch.zeros(1, LENGTH + 1, dtype=torch.long)
    for first in range(5, 5 + 30 * 260, 260):
        kinds[0, first : first + 256] = 1
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(1, LENGTH + 1, 64, generator=generator)
    ids = torch.full((LENGTH + 1,), 7)
    passage = Passage(embeddings, kinds, ids)
    with Largest() as seen:
        row = explain(model, [passage], [[(LENGTH,)]], checkpoint=True)[0][0]
    assert row.gained.shape == (LENGTH,)
    assert row.gained[:5].max() > 0, "only a layer without a window reaches the first positions"
    assert 0 < seen.elements < LENGTH**2 / 8
