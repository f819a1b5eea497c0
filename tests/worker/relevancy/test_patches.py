"""Relevancy over patches is that of the plain way, and keeps what each image token has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration

from medgemma_tasks.errors import NonFiniteRelevancy
from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import explain
from medgemma_worker.relevancy.patches import patch_maps
from medgemma_worker.relevancy.tower import Tower
from medgemma_worker.relevancy.windows import from_windows, spread, to_windows
from tests.worker.relevancy.retained_tower import retained_tower, split_by_hand
from tests.worker.relevancy.test_explain import gap, passage_of
from tests.worker.tiny import TOKENS_PER_IMAGE, Tiny, tiny_case, tiny_model

SHAPES = [(1, 4), (2, 4), (4, 4), (2, 2), (4, 2)]
"""Heads of the tower, and pixels on a side of its patches: windows of 2 x 2 and of 4 x 4."""


def seeing(heads: int = 2, patch_size: int = 4) -> Gemma3ForConditionalGeneration:
    model = tiny_model(vision_heads=heads, patch_size=patch_size, seeing=True)
    install(model)
    return model


def explained(case: Tiny, targets: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """scores (t, n, tokens) and gradients (t, n, tokens, hidden) of a case with images."""
    passage = passage_of(case)
    found = explain(case.model, [passage], [targets], gradients=True)[0]
    scores = [torch.stack([row.gained[a:e] for a, e in passage.images]) for row in found]
    gradients = [row.gradient for row in found]
    assert all(gradient is not None for gradient in gradients)
    return torch.stack(scores), torch.stack(gradients)  # type: ignore[arg-type]


@pytest.mark.parametrize(("heads", "patch_size"), SHAPES)
@pytest.mark.parametrize("images", [1, 3])
def test_streaming_equals_retained(heads: int, patch_size: int, images: int) -> None:
    model = seeing(heads, patch_size)
    case = tiny_case(model, images=images)
    assert case.pixels is not None
    end = case.ids.shape[1]
    scores, gradients = explained(case, [(end - 3, end - 2)])
    streamed = patch_maps(model, case.pixels, scores, gradients)
    side = 32 // patch_size
    assert streamed.shape == (1, images, side, side)
    assert streamed.dtype == torch.float32
    for i in range(images):
        layers = retained_tower(model, case.pixels[i : i + 1], gradients[0, i])
        carried = split_by_hand(scores[0, i], torch.ones(side**2))
        identity = torch.eye(carried.numel())
        for layer in reversed(layers):
            shared = layer.relevancy / layer.relevancy.sum(dim=1, keepdim=True)
            carried = carried @ (identity + (shared - identity) / len(layers))
        expected = split_by_hand(scores[0, i], carried)
        assert gap(streamed[0, i].flatten(), expected) <= 1e-5
        windows = to_windows(expected, TOKENS_PER_IMAGE)
        assert windows.std(dim=-1).mean() > 0.1 * windows.mean(), "even windows prove little"


@pytest.mark.parametrize(("heads", "patch_size"), SHAPES)
def test_the_way_back_gives_equation_6_of_the_plain_way(heads: int, patch_size: int) -> None:
    model = seeing(heads, patch_size)
    case = tiny_case(model, images=1)
    assert case.pixels is not None
    scores, gradients = explained(case, [(case.ids.shape[1] - 1,)])
    tower = Tower(model, case.pixels)
    row = spread(scores[0, 0], torch.ones(tower.last.shape[1]))
    gained = torch.zeros_like(row)
    for layer, (gradient,) in tower.back(tower.pooled(gradients[:, 0])):
        gained = gained + layer.weighted_relevancy(row + gained, gradient)

    relevancy = identity = torch.eye(row.numel())
    for layer in retained_tower(model, case.pixels, gradients[0, 0]):
        relevancy = relevancy + layer.relevancy @ relevancy
    assert gap(gained, row @ (relevancy - identity)) <= 1e-5


def test_the_tower_taken_part_by_part_is_the_tower() -> None:
    model = seeing()
    case = tiny_case(model, images=1)
    assert case.pixels is not None
    tower = model.model.vision_tower
    parts = tower.post_layernorm(Tower(model, case.pixels).last)
    assert gap(parts, tower(pixel_values=case.pixels).last_hidden_state) <= 1e-6


def test_each_window_keeps_what_its_token_has() -> None:
    model = seeing()
    case = tiny_case(model, images=2)
    assert case.pixels is not None
    scores, gradients = explained(case, [(case.ids.shape[1] - 1,)])
    maps = patch_maps(model, case.pixels, scores, gradients)
    sums = to_windows(maps.flatten(2), TOKENS_PER_IMAGE).sum(dim=-1)
    assert gap(sums, scores) <= 1e-6


def test_several_targets_give_what_each_gives_alone() -> None:
    model = seeing()
    case = tiny_case(model, images=2)
    assert case.pixels is not None
    end = case.ids.shape[1]
    scores, gradients = explained(case, [(end - 1,), (end - 4, end - 3)])
    together = patch_maps(model, case.pixels, scores, gradients)
    assert gap(together[0], together[1]) > 1e-2
    for t in range(2):
        alone = patch_maps(model, case.pixels, scores[t : t + 1], gradients[t : t + 1])
        assert gap(together[t], alone[0]) <= 1e-5


@pytest.mark.parametrize("checkpoint", [False, True])
def test_the_gradient_at_the_image_tokens_is_that_of_the_features(checkpoint: bool) -> None:
    model = seeing()
    case = tiny_case(model, images=2)
    passage = passage_of(case)
    position = case.ids.shape[1] - 2
    features = passage.embeddings[case.kinds == 1].view(2, TOKENS_PER_IMAGE, -1).clone()
    features.requires_grad_(True)
    embeddings = passage.embeddings.masked_scatter((case.kinds == 1)[..., None], features)
    with torch.enable_grad():
        logits = model(inputs_embeds=embeddings, token_type_ids=case.kinds, use_cache=False).logits
        logits[0, position - 1, case.ids[0, position]].backward()
    assert features.grad is not None

    row = explain(model, [passage], [[(position,)]], gradients=True, checkpoint=checkpoint)[0][0]
    assert row.gradient is not None
    assert gap(row.gradient, features.grad) <= 1e-5


def test_each_passage_of_a_batch_and_each_target_has_its_own_gradient() -> None:
    model = seeing()
    passages = [passage_of(tiny_case(model, images=n, seed=n, answer=3 + n)) for n in (0, 1, 2)]
    ends = [passage.token_ids.numel() for passage in passages]
    targets = [[(end - 2,), (end - 1,)] for end in ends]
    together = explain(model, passages, targets, gradients=True)
    assert [row.gradient for row in together[0]] == [None, None]
    for passage, of_passage, rows in zip(passages[1:], targets[1:], together[1:], strict=True):
        for target, row in zip(of_passage, rows, strict=True):
            alone = explain(model, [passage], [[target]], gradients=True)[0][0]
            assert row.gradient is not None
            assert alone.gradient is not None
            assert gap(row.gradient, alone.gradient) <= 1e-5


def test_no_gradient_is_kept_unless_it_is_asked_for() -> None:
    model = seeing()
    passage = passage_of(tiny_case(model, images=1))
    row = explain(model, [passage], [[(passage.token_ids.numel() - 1,)]])[0][0]
    assert row.gradient is None


def test_an_image_after_the_target_has_a_map_of_zeros() -> None:
    model = seeing()
    case = tiny_case(model, images=2)
    assert case.pixels is not None
    passage = passage_of(case)
    (first, end), _ = passage.images
    position = end + 2
    row = explain(model, [passage], [[(position,)]], gradients=True)[0][0]
    scores = torch.stack([row.gained[first:end], torch.zeros(TOKENS_PER_IMAGE)])
    assert row.gradient is not None
    assert row.gradient[0].any()
    assert not row.gradient[1].any()
    before, after = patch_maps(model, case.pixels, scores[None], row.gradient[None])[0]
    assert before.sum() > 0
    assert not after.any()


@pytest.mark.parametrize("layer", [0, 1])
def test_a_number_that_is_none_is_an_error_with_the_first_vision_layer(layer: int) -> None:
    model = seeing()
    case = tiny_case(model, images=1)
    assert case.pixels is not None
    scores, gradients = explained(case, [(case.ids.shape[1] - 1,)])
    model.model.vision_tower.encoder.layers[layer].self_attn.k_proj.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteRelevancy, match=f"vision layer {layer}") as error:
        patch_maps(model, case.pixels, scores, gradients)
    assert error.value.details["layer"] == layer


def test_a_gradient_that_is_not_a_number_is_an_error() -> None:
    model = seeing()
    case = tiny_case(model, images=1)
    assert case.pixels is not None
    scores, gradients = explained(case, [(case.ids.shape[1] - 1,)])
    gradients[0, 0, 3, 5] = float("nan")
    with pytest.raises(NonFiniteRelevancy, match="above the vision tower"):
        patch_maps(model, case.pixels, scores, gradients)


@pytest.mark.parametrize("scale", [0.0, 1e-42])
def test_a_layer_without_relevancy_leaves_a_map_as_it_is(scale: float) -> None:
    model = seeing()
    case = tiny_case(model, images=1)
    assert case.pixels is not None
    tower = Tower(model, case.pixels)
    weights = torch.rand(tower.last.shape[1], generator=torch.Generator().manual_seed(0))
    for layer, (gradient,) in tower.back(torch.ones_like(tower.last) * scale):
        assert torch.equal(layer.shared_out(weights, gradient), weights)
        assert not scale or gradient.any(), "nothing would be shown of small numbers"


def test_windows_are_read_row_by_row_and_put_back() -> None:
    patches = torch.arange(36)
    windows = to_windows(patches, 9)
    assert windows[0].tolist() == [0, 1, 6, 7]
    assert windows[5].tolist() == [16, 17, 22, 23]
    assert torch.equal(from_windows(windows), patches)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-42])
def test_a_split_keeps_the_totals_however_small_the_weights(scale: float) -> None:
    totals, weights = torch.tensor([3.0, 5.0, 0.0, 7.0]), torch.zeros(16)
    weights[[0, 1]] = torch.tensor([1.0, 3.0]) * scale
    split = to_windows(spread(totals, weights), 4)
    assert torch.allclose(split.sum(dim=-1), totals)
    assert torch.allclose(split[0], torch.tensor([0.75, 2.25, 0, 0]), rtol=1e-2)
    assert split[1].tolist() == [1.25] * 4
