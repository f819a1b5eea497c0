"""The streaming relevancy gives the numbers of the retained-gradient reference."""

from __future__ import annotations

import pytest
import torch

from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import Passage, RelevancyRow, embed, explain, relevancy_row
from medgemma_worker.relevancy.retained import retained_row
from tests.worker.tiny import TOKENS_PER_IMAGE, Tiny, tiny_case, tiny_model

# From the end of the sequence: an answer of six tokens, eight of question before it.
TARGETS = {
    "token": (-3,),
    "keyword": (-4, -3),
    "answer": (-6, -5, -4, -3, -2, -1),
    "prompt": (-10, -9),
}
BETWEEN_IMAGES = 5 + 1 + TOKENS_PER_IMAGE + 1
"""Position of the first word after the first image."""


def assert_same(row: RelevancyRow, reference: torch.Tensor, positions: tuple[int, ...]) -> None:
    """The limits that the method is held to, on the target's own positions and on the others."""
    own = torch.zeros(reference.numel(), dtype=torch.bool)
    own[list(row.own)] = True
    gained = torch.zeros(reference.numel())
    gained[: positions[-1]] = row.gained
    expected = reference - own.float() / len(positions)
    assert (gained - expected)[~own].abs().max() / expected[~own].abs().max() <= 1e-5
    assert (gained - expected)[own].abs().max() <= 1e-6
    assert expected[~own].abs().max() > 1e-3, "a reference of zeros would prove nothing"


def reference_of(case: Tiny, embeddings: torch.Tensor, positions: tuple[int, ...]) -> torch.Tensor:
    # The reference sees the whole sequence: what is left out must make no difference.
    return retained_row(case.model, embeddings, case.kinds, case.ids[0], positions)


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
    assert_same(streamed, reference_of(case, embeddings, positions), positions)


@pytest.mark.parametrize("window", [4096, 24])
def test_a_batch_of_four_lengths_equals_retained_for_every_token_and_words_of_the_prompt(
    window: int,
) -> None:
    model = tiny_model(window=window)
    install(model)
    cases = [tiny_case(model, images=n, seed=n, answer=2 + n) for n in (1, 2, 3, 4)]
    embedded = [embed(model, case.ids, case.kinds, case.pixels) for case in cases]
    passages = [Passage(e, c.kinds, c.ids[0]) for e, c in zip(embedded, cases, strict=True)]
    targets = [
        [(p,) for p in range(c.prompt_length, c.ids.shape[1])]
        + [(BETWEEN_IMAGES + 1, BETWEEN_IMAGES + 2)]
        for c in cases
    ]
    assert len({case.ids.shape[1] for case in cases}) == 4
    found = explain(model, passages, targets)
    for case, embeddings, wanted, rows in zip(cases, embedded, targets, found, strict=True):
        assert len(rows) == len(wanted)
        for positions, row in zip(wanted, rows, strict=True):
            assert_same(row, reference_of(case, embeddings, positions), positions)


@pytest.mark.parametrize("images", [1, 4])
def test_bfloat16_ranks_positions_as_float32_does(images: int) -> None:
    model = tiny_model()
    install(model)
    model.to(torch.bfloat16).float()  # one set of weights, as a checkpoint in bfloat16 has them
    case = tiny_case(model, images=images)
    embeddings = embed(model, case.ids, case.kinds, case.pixels).bfloat16()
    position = case.ids.shape[1] - 1

    def row() -> torch.Tensor:
        start = embeddings.to(model.dtype)
        found = relevancy_row(model, start, case.kinds, case.ids[0], (position,))
        return found.gained[: position - 1]

    full = row()
    model.to(torch.bfloat16)
    ranks = torch.stack([x.argsort().argsort().double() for x in (row(), full)])
    assert torch.corrcoef(ranks)[0, 1] >= 0.99


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
