"""What the record says of results is what they hold."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from medgemma_tasks.arrays import unpack
from medgemma_tasks.explanation import ExplanationResult
from medgemma_tasks.models import Consistency, ImageAttributes, ImageRef, Shares, Span
from medgemma_worker.rendering import describe, render

LABELS = ["<bos>", "What", "?", "Yes", "!"]
REF = ImageRef(
    name="ab" * 32,
    width=40,
    height=20,
    mode="L",
    attributes=ImageAttributes(left_of_image="patient-right", top_of_image="patient-head"),
)


def target(position: int, cell: tuple[int, int]) -> ExplanationResult:
    """A target at ``position``, which sees the tokens before it; its map is one cell."""
    scores = np.zeros((1, 16, 16), np.float32)
    scores[0][cell] = 0.5
    return ExplanationResult.from_scores(
        image_scores=scores,
        text_scores=np.arange(position, dtype=np.float32),
        text_positions=list(range(position)),
        text_roles=["special", "prompt", "prompt", "answer", "answer"][:position],
        token_labels=LABELS[:position],
        generated_text="Yes!",
        own_relevancy=0.125,
        shares=Shares(images=0.5, prompt=0.5, answer=0.0, special=0.0),
        consistency=Consistency(checked=1, misses=0),
        spans=[
            Span(
                kind="token",
                text=LABELS[position],
                token_positions=(position,),
                tokens=(LABELS[position],),
            )
        ],
        metadata={},
    )


RESULTS = [target(3, (5, 2)), target(4, (9, 14))]


def test_tokens_are_said_once_and_each_target_has_scores_for_those_it_saw() -> None:
    described = describe(RESULTS, [REF])
    assert [token.text for token in described.tokens] == LABELS[:4]
    assert [len(one.scores) for one in described.targets] == [3, 4]
    assert described.targets[1].scores == (0.0, 1.0, 2.0, 3.0)


def test_each_target_has_its_own_peak_range_and_zones() -> None:
    first, second = describe(RESULTS, [REF]).targets
    assert (first.maps[0].peak_cell, second.maps[0].peak_cell) == ((5, 2), (9, 14))
    assert (first.low, first.high) == (0.0, 0.5)
    assert first.maps[0].share == 0.5
    for one, name in ((first, "patient right, upper third"), (second, "patient left, lower third")):
        zones = one.maps[0].zones
        assert zones is not None
        assert max(zones.zones, key=lambda zone: zone.share).name == name


def test_pictures_are_those_of_the_first_target_and_arrays_those_of_all() -> None:
    described = describe(RESULTS, [REF])
    files = render(RESULTS, described, [Image.new("L", (40, 20), 90)])
    assert set(files) == {"relevancy.npz", "heatmap-0.png", "overlay-0.png"}
    assert len(unpack(files["relevancy.npz"].content)) == 2
    heatmap = np.asarray(Image.open(io.BytesIO(files["heatmap-0.png"].content)).convert("L"))
    row, column = np.unravel_index(np.argmax(heatmap), heatmap.shape)
    # Cell (5, 2) of 16 over the 40-pixel square around a 40 x 20 image.
    assert abs(column / heatmap.shape[1] * 40 - 2.5 * 2.5) < 2.5
    assert abs(row / heatmap.shape[0] * 20 - (5.5 * 2.5 - 10)) < 2.5
