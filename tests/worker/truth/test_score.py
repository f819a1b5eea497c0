"""log p of frozen tokens: the same as a plain forward pass has, and each variant once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medgemma_tasks.models import ImagePart, Message, TextPart
from medgemma_worker.phantom.images import lesion_cells
from medgemma_worker.prompt import build_prompt
from medgemma_worker.truth.frozen import Frozen
from medgemma_worker.truth.job import areas
from medgemma_worker.truth.perturb import Covering
from medgemma_worker.truth.questions import Question
from medgemma_worker.truth.sanity import randomised_text_layers
from medgemma_worker.truth.score import Scorer


def scorer(loaded: tuple[Any, Any], frozen: Frozen, batch: int = 8) -> Scorer:
    passage = frozen.passage
    covering = Covering(frozen.images)
    kinds = passage.kinds[0]
    return Scorer(*loaded, passage.token_ids, kinds, frozen.target, covering, batch=batch)


def variants(count: int) -> list[np.ndarray]:
    draw = np.random.default_rng(3)
    return [draw.random((1, 16, 16)) < 0.7 for _ in range(count)]


@torch.no_grad()
def test_the_whole_image_scores_as_in_a_plain_forward_pass(
    loaded: tuple[Any, Any], frozen: Frozen, question: Question
) -> None:
    model, processor = loaded
    content = (ImagePart(image=0), TextPart(text=question.prompt))
    messages = [Message(role="user", content=content)]
    prompt = build_prompt(model, processor, messages, frozen.images, room=30)
    passage = frozen.passage
    logits = model(
        input_ids=passage.token_ids[None],
        token_type_ids=passage.kinds,
        attention_mask=torch.ones_like(passage.kinds),
        pixel_values=prompt.pixel_values,
    ).logits[0]
    log_p = torch.log_softmax(logits, dim=-1)
    wanted = sum(float(log_p[p - 1, passage.token_ids[p]]) for p in frozen.target)
    everything = np.ones((1, 16, 16), dtype=np.bool_)
    assert scorer(loaded, frozen).log_p([everything])[0] == pytest.approx(wanted, abs=1e-5)


def test_a_batch_scores_what_each_variant_scores_alone(
    loaded: tuple[Any, Any], frozen: Frozen
) -> None:
    cells = variants(5)
    together = scorer(loaded, frozen, batch=4).log_p(cells)
    alone = [scorer(loaded, frozen, batch=1).log_p([one])[0] for one in cells]
    assert together == pytest.approx(np.array(alone), abs=1e-4)


def test_a_variant_is_scored_once(
    loaded: tuple[Any, Any], frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = scorer(loaded, frozen)
    sizes: list[int] = []
    forward = one._forward
    monkeypatch.setattr(
        one, "_forward", lambda images: sizes.append(len(images)) or forward(images)
    )
    a, b = variants(2)
    first = one.log_p([a, b, a])
    second = one.log_p([b, a])
    assert sizes == [2]
    assert first.tolist() == [second[1], second[0], second[1]]


def test_a_map_of_the_lesion_has_the_better_areas(
    loaded: tuple[Any, Any], frozen: Frozen, question: Question
) -> None:
    assert question.lesion is not None
    lesion = lesion_cells(question.lesion, grow=1)[None].astype(np.float32)
    passage = frozen.passage
    scored = areas(
        *loaded,
        frozen.images,
        passage.token_ids,
        passage.kinds[0],
        frozen.target,
        {"lesion": lesion, "elsewhere": 1 - lesion},
    )
    assert scored.depends
    good, bad = scored.areas["lesion"], scored.areas["elsewhere"]
    assert good.counts == (1, 2, 4, 8, 16, 32, 64, 128)
    assert good.deletion < bad.deletion - 0.2
    assert good.insertion > bad.insertion + 0.2


def test_a_target_that_needs_no_image_has_no_areas(loaded: tuple[Any, Any], frozen: Frozen) -> None:
    passage = frozen.passage
    there = [passage.answer_first]  # "There": so begins every answer about a lesion, and
    flat = (frozen.images[0].resize((1, 1)).resize((256, 256)),)  # a flat image is its own blur
    grid = {"any": np.ones((1, 16, 16), dtype=np.float32)}
    scored = areas(*loaded, flat, passage.token_ids, passage.kinds[0], there, grid)
    assert not scored.depends
    assert not scored.areas


def test_random_weights_are_there_within_and_gone_after(loaded: tuple[Any, Any]) -> None:
    model, _ = loaded
    weights = {name: value.clone() for name, value in model.state_dict().items()}

    def changed() -> set[str]:
        now = model.state_dict()
        return {name for name, value in weights.items() if not torch.equal(value, now[name])}

    def fail_within() -> None:
        with randomised_text_layers(model, 0):
            touched.update(changed())
            raise RuntimeError("inside")

    touched: set[str] = set()
    with pytest.raises(RuntimeError, match="inside"):
        fail_within()
    assert len(touched) == 7 * 6  # q, k, v, o and three of the MLP, in 6 layers
    assert all("language_model.layers" in name for name in touched)
    assert not changed()


def test_the_cells_of_several_images_are_ordered_together(
    loaded: tuple[Any, Any], frozen: Frozen, question: Question
) -> None:
    model, processor = loaded
    images = (*frozen.images, Image.new("RGB", (256, 256), "gray"))
    content = (*(ImagePart(image=i) for i in range(2)), TextPart(text=question.prompt))
    messages = [Message(role="user", content=content)]
    prompt = build_prompt(model, processor, messages, images, room=30)
    answer = frozen.passage.token_ids[frozen.passage.answer_first :]
    ids = torch.cat([prompt.input_ids[0], answer])
    kinds = torch.cat([prompt.token_type_ids[0], torch.zeros_like(answer)])
    shift = prompt.length - (frozen.passage.answer_first or 0)
    target = [p + shift for p in frozen.target]
    covering = Covering(images)
    shown = np.ones((2, 16, 16), dtype=np.bool_)
    second = shown.copy()
    second[1] = False  # a grey image is its own blur
    first = shown.copy()
    first[0] = False
    whole, same, other = Scorer(model, processor, ids, kinds, target, covering).log_p(
        [shown, second, first]
    )
    assert same == pytest.approx(whole, abs=1e-5)
    assert abs(other - whole) > 0.1
    maps = {"any": np.random.default_rng(0).random((2, 16, 16))}
    scored = areas(model, processor, images, ids, kinds, target, maps)
    if scored.depends:
        assert scored.areas["any"].counts[-1] == 256
