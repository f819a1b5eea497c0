"""How a map builds up, held against attention and gradients that transformers itself retained."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration

from medgemma_tasks.errors import InvalidRequest
from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import Passage, explain
from medgemma_worker.relevancy.layer import Layer
from medgemma_worker.relevancy.retained import RetainedLayer, retained_layers
from medgemma_worker.relevancy.trace import trace
from tests.worker.relevancy.test_explain import gap, passage_of
from tests.worker.tiny import tiny_case, tiny_model


@dataclass(frozen=True)
class Case:
    model: Gemma3ForConditionalGeneration
    passage: Passage
    positions: tuple[int, ...]
    retained: list[RetainedLayer]
    weights: Tensor

    @property
    def others(self) -> Tensor:
        """Where the identity does not hide the last digits of the reference."""
        return self.weights == 0


@pytest.fixture(params=[4096, 24], ids=["wide", "windowed"])
def case(request: pytest.FixtureRequest) -> Case:
    model = tiny_model(window=request.param)
    install(model)
    passage = passage_of(tiny_case(model, images=2))
    end = passage.token_ids.numel()
    positions = (end - 4, end - 3, end - 1)
    length = positions[-1]
    retained = retained_layers(
        model,
        passage.embeddings[:, :length],
        passage.kinds[:, :length],
        passage.token_ids,
        positions,
    )
    weights = torch.zeros(length)
    weights[[p - 1 for p in positions]] = 1 / len(positions)
    return Case(model, passage, positions, retained, weights)


def test_each_layer_has_the_row_of_the_product_of_the_layers_up_to_it(case: Case) -> None:
    found = trace(case.model, case.passage, case.positions)
    product = torch.eye(len(case.weights))
    assert found.layers.shape == (len(case.retained), len(case.weights))
    for layer, row in zip(case.retained, found.layers, strict=True):
        product = product + layer.relevancy @ product
        expected = case.weights @ product - case.weights
        assert expected[case.others].abs().max() > 0, "a reference of zeros would prove nothing"
        assert gap(row[case.others], expected[case.others]) <= 1e-5
        assert (row - expected).abs().max() <= 1e-6
    assert gap(found.layers[2], found.layers[-1]) > 1e-2  # layers do differ


def test_the_last_row_is_the_map_that_is_explained_without_a_trace(case: Case) -> None:
    traced = trace(case.model, case.passage, case.positions).row
    plain = explain(case.model, [case.passage], [[case.positions]])[0][0]
    assert list(traced.rows) == list(plain.rows)
    assert gap(traced.gained, plain.gained) <= 1e-5
    assert torch.equal(traced.attention, plain.attention)
    assert (traced.own, traced.checked) == (plain.own, plain.checked)
    assert traced.misses == plain.misses


@pytest.mark.parametrize("index", [0, 5, 6])
def test_heads_are_the_rows_of_each_head(case: Case, index: int) -> None:
    heads = trace(case.model, case.passage, case.positions, heads_of=index).heads
    assert heads is not None
    assert heads.layer == index
    layer = case.retained[index]
    assert gap(heads.attention, case.weights @ layer.attention) <= 1e-5
    expected = case.weights @ (layer.gradient * layer.attention).clamp(min=0)
    assert gap(heads.relevancy, expected) <= 1e-5
    # Their mean is what equation 5 says of the layer.
    assert gap(heads.relevancy.mean(dim=0), case.weights @ layer.relevancy) <= 1e-5
    assert gap(heads.relevancy[0], heads.relevancy[1]) > 1e-2  # heads do differ


def test_checkpointing_changes_no_number_of_a_trace(case: Case) -> None:
    plain = trace(case.model, case.passage, case.positions, heads_of=5)
    saved = trace(case.model, case.passage, case.positions, heads_of=5, checkpoint=True)
    assert gap(saved.layers, plain.layers) <= 1e-5
    assert plain.heads is not None
    assert saved.heads is not None
    assert gap(saved.heads.relevancy, plain.heads.relevancy) <= 1e-5


def test_small_blocks_of_rows_change_no_number_of_a_trace(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trace(case.model, case.passage, case.positions, heads_of=5)
    monkeypatch.setattr("medgemma_worker.relevancy.layer.BLOCK_ELEMENTS", {"cpu": 2000})
    blocks = trace(case.model, case.passage, case.positions, heads_of=5)
    assert gap(blocks.layers, whole.layers) <= 1e-5
    assert whole.heads is not None
    assert blocks.heads is not None
    assert gap(blocks.heads.relevancy, whole.heads.relevancy) <= 1e-5


def test_all_rows_are_had_for_one_recomputation_of_each_layer(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Building up must not cost a pass for each layer."""
    asked: list[int] = []
    real = Layer.weighted_relevancy

    def counted(self: Layer, weights: Tensor, gradient: Tensor) -> Tensor:
        asked.append(self.index)
        return real(self, weights, gradient)

    monkeypatch.setattr(Layer, "weighted_relevancy", counted)
    trace(case.model, case.passage, case.positions)
    assert asked == [6, 5, 4, 3, 2, 1, 0]


def test_layers_are_named_by_whether_they_have_a_window(case: Case) -> None:
    names = trace(case.model, case.passage, case.positions).layer_names
    assert names[4:] == ("layer 4, local", "layer 5, global", "layer 6, local")


@pytest.mark.parametrize("index", [-1, 7])
def test_a_layer_that_does_not_exist_is_refused_by_the_layers_there_are(
    case: Case, index: int
) -> None:
    with pytest.raises(InvalidRequest, match="0 to 6"):
        trace(case.model, case.passage, case.positions, heads_of=index)
