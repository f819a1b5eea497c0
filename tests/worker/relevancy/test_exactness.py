"""The streaming relevancy gives the numbers of the retained-gradient reference."""

from __future__ import annotations

import pytest
import torch

from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import Passage, embed, explain, relevancy_row
from medgemma_worker.relevancy.retained import retained_row
from tests.worker.tiny import tiny_case, tiny_model

TARGETS = {"token": (-3,), "keyword": (-4, -3), "answer": (-6, -5, -4, -3, -2, -1)}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("images", [0, 1, 3])
@pytest.mark.parametrize("window", [4096, 24])
@pytest.mark.parametrize("heads", [(8, 4), (4, 1), (16, 16)])
def test_streaming_equals_retained(
    target: str, images: int, window: int, heads: tuple[int, int]
) -> None:
    model = tiny_model(window=window, heads=heads[0], kv_heads=heads[1])
    install(model)
    case = tiny_case(model, images=images)
    length = case.ids.shape[1]
    positions = tuple(length + p for p in TARGETS[target])
    embeddings = embed(model, case.ids, case.kinds, case.pixels)

    streamed = relevancy_row(model, embeddings, case.kinds, case.ids[0], positions)
    # The reference sees the whole sequence: what is left out must make no difference.
    reference = retained_row(model, embeddings, case.kinds, case.ids[0], positions)

    own = torch.zeros(length, dtype=torch.bool)
    own[list(streamed.own)] = True
    identity = torch.zeros(length)
    identity[list(streamed.own)] = 1 / len(positions)
    gained = torch.zeros(length)
    gained[: positions[-1]] = streamed.gained
    others, expected = gained[~own], (reference - identity)[~own]
    assert (others - expected).abs().max() / expected.abs().max() <= 1e-5
    assert (gained - (reference - identity))[own].abs().max() <= 1e-6
    assert expected.abs().max() > 1e-3, "a reference of zeros would prove nothing"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("window", [4096, 24])
def test_the_log_probability_is_explained_as_the_reference_explains_it(
    target: str, window: int
) -> None:
    model = tiny_model(window=window)
    install(model)
    case = tiny_case(model, images=1)
    length = case.ids.shape[1]
    positions = tuple(length + p for p in TARGETS[target])
    embeddings = embed(model, case.ids, case.kinds, case.pixels)
    passage = Passage(embeddings, case.kinds, case.ids[0])

    streamed = explain(model, [passage], [[positions]], value="log-probability")[0][0]
    of_logit = explain(model, [passage], [[positions]])[0][0]
    reference = retained_row(
        model, embeddings, case.kinds, case.ids[0], positions, value="log-probability"
    )
    others = torch.ones(positions[-1], dtype=torch.bool)
    others[list(streamed.own)] = False
    expected = reference[: positions[-1]][others]
    assert (streamed.gained[others] - expected).abs().max() / expected.abs().max() <= 1e-5
    apart = (of_logit.gained[others] - expected).abs().max() / expected.abs().max()
    assert apart > 1e-3, "on a model where both are one, the switch would prove nothing"


def test_tokens_after_the_target_change_nothing() -> None:
    model = tiny_model()
    install(model)
    case = tiny_case(model, images=1)
    embeddings = embed(model, case.ids, case.kinds, case.pixels)
    position = case.prompt_length + 1
    whole = relevancy_row(model, embeddings, case.kinds, case.ids[0], (position,))
    cut = relevancy_row(
        model,
        embeddings[:, : position + 1],
        case.kinds[:, : position + 1],
        case.ids[0, : position + 1],
        (position,),
    )
    assert torch.equal(whole.gained, cut.gained)


def test_image_tokens_see_later_tokens_of_their_own_image() -> None:
    """Without token types the map would explain another computation than the one that answered."""
    model = tiny_model()
    install(model)
    case = tiny_case(model, images=1)
    embeddings = embed(model, case.ids, case.kinds, case.pixels)
    length = case.ids.shape[1]
    with_types = relevancy_row(model, embeddings, case.kinds, case.ids[0], (length - 1,))
    without = relevancy_row(
        model, embeddings, torch.zeros_like(case.kinds), case.ids[0], (length - 1,)
    )
    assert not torch.allclose(with_types.gained, without.gained, rtol=1e-2, atol=1e-6)
