"""Integrated gradients over image tokens: they add up, and are refused without a start."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medgemma_tasks.errors import InvalidRequest
from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import RAW, Passage, embed, explain
from medgemma_worker.relevancy.integrated import explain_all, integrated_rows
from medgemma_worker.relevancy.methods import INTEGRATED
from tests.worker.tiny import TOKENS_PER_IMAGE, tiny_case, tiny_model


@pytest.fixture(scope="module")
def model():  # type: ignore[no-untyped-def]
    model = tiny_model(seeing=True)
    install(model)
    return model


def passage_of(model, images: int = 2) -> Passage:  # type: ignore[no-untyped-def]
    """A tiny case whose image tokens are near those of the covered image, so that the way between
    them is nearly straight for log p."""
    case = tiny_case(model, images=images)
    embeddings = embed(model, case.ids, case.kinds, case.pixels)
    places = torch.nonzero(case.kinds[0] == 1).flatten().view(images, TOKENS_PER_IMAGE)
    spans = tuple((int(p[0]), int(p[-1]) + 1) for p in places)
    whole = torch.stack([embeddings[0, first:end] for first, end in spans])
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(whole.shape, generator=generator) * whole.std() * 0.05
    return Passage(embeddings, case.kinds, case.ids[0], images=spans, covered=whole + noise)


def log_p(model, passage: Passage, position: int) -> float:  # type: ignore[no-untyped-def]
    with torch.no_grad():
        logits = model(
            inputs_embeds=passage.embeddings[:, :position],
            token_type_ids=passage.kinds[:, :position],
            use_cache=False,
        ).logits[0, -1]
    return float(torch.log_softmax(logits.float(), dim=-1)[passage.token_ids[position]])


def test_the_parts_add_up_to_what_the_image_changes(model, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Completeness, the method's axiom; parts against the target are left in for it."""
    monkeypatch.setattr(torch.Tensor, "clamp", lambda self, min=None: self)
    passage = passage_of(model)
    assert passage.covered is not None
    position = passage.token_ids.numel() - 1
    covered = passage.embeddings.clone()
    for (first, end), tokens in zip(passage.images, passage.covered, strict=True):
        covered[0, first:end] = tokens
    (row,) = integrated_rows(model, passage, [(position,)])
    change = log_p(model, passage, position) - log_p(
        model, replace(passage, embeddings=covered), position
    )
    assert abs(change) > 1e-4
    assert float(row.sum()) == pytest.approx(change, rel=0.02, abs=1e-5)


def test_only_image_tokens_have_any_and_none_less_than_nothing(model) -> None:  # type: ignore[no-untyped-def]
    passage = passage_of(model)
    (row,) = integrated_rows(model, passage, [(passage.token_ids.numel() - 1,)])
    images = passage.kinds[0, : row.numel()] == 1
    assert row[images].max() > 0
    assert row.min() == 0
    assert not row[~images].any()


def test_a_target_between_images_owes_nothing_to_the_later_one(model) -> None:  # type: ignore[no-untyped-def]
    passage = passage_of(model)
    (_, first_end), (second, _) = passage.images
    row, last = integrated_rows(
        model, passage, [(first_end + 2,), (passage.token_ids.numel() - 1,)]
    )
    assert row.numel() == first_end + 2 < second
    assert row[:first_end].max() > 0
    assert last[second:].max() > 0


def test_it_stands_among_the_others_in_the_order_asked_for(model) -> None:  # type: ignore[no-untyped-def]
    passage = passage_of(model)
    targets = [[(passage.token_ids.numel() - 1,)]]
    row = explain_all(model, [passage], targets, methods=(INTEGRATED, "chefer", RAW))[0][0]
    assert list(row.rows) == [INTEGRATED, "chefer", RAW]
    assert torch.equal(row.gained, integrated_rows(model, passage, targets[0])[0])
    plain = explain(model, [passage], targets, methods=("chefer",))[0][0]
    assert torch.equal(row.rows["chefer"], plain.gained)


def test_without_the_covered_image_it_is_refused(model) -> None:  # type: ignore[no-untyped-def]
    passage = replace(passage_of(model), covered=None)
    with pytest.raises(InvalidRequest, match="covered"):
        explain_all(model, [passage], [[(passage.token_ids.numel() - 1,)]], methods=(INTEGRATED,))
