"""MedGemmaExplainer on the shipped phantom model: the seed's API, and what its results say."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medgemma_client.images import read_image
from medgemma_tasks.errors import (
    KeywordNotInAnswer,
    ModelLoadFailed,
    NonFiniteRelevancy,
    NotAnImage,
    RequestError,
    TokenOutOfRange,
    TruncatedImage,
)
from medgemma_tasks.models import Stage
from medgemma_worker import load_medgemma
from medgemma_worker.phantom.images import make_phantom, overlaps_cell
from medgemma_worker.pictures_in import prepared, read_picture
from medgemma_worker.question import ask
from medgemma_worker.relevancy.explain import embed, relevancy_row

PROMPT = "Is there a finding?"


def test_a_keyword_of_several_tokens_is_explained_on_its_lesion(explainer, phantom) -> None:
    result = explainer.explain_keyword(phantom.image, PROMPT, "consolidation")
    assert result.generated_text == phantom.answer
    assert len(result.spans[0].tokens) > 1
    assert result.spans[0].text == "consolidation"
    assert overlaps_cell(phantom.mask, result.peak_cell())


def test_a_result_has_the_fields_of_the_library_this_grew_from(explainer, phantom) -> None:
    result = explainer.explain(phantom.image, PROMPT)
    assert result.image_relevancy.shape == (16, 16)
    assert result.image_relevancy.min() == 0.0
    assert result.image_relevancy.max() == 1.0
    assert result.text_relevancy.shape == (len(result.token_labels),)
    assert result.raw_image_relevancy is not None
    assert result.raw_text_relevancy is not None
    wanted = {"seq_len", "num_layers", "input_len", "prompt", "target_token"}
    assert wanted | {"target_token_position", "logit_position"} <= result.metadata.keys()
    assert result.metadata["logit_position"] == result.metadata["target_token_position"] - 1
    assert result.metadata["num_layers"] == 6


def test_the_default_is_the_answer_span_without_its_end_marker(explainer, phantom) -> None:
    default = explainer.explain(phantom.image, PROMPT)
    span = explainer.explain_answer_span(phantom.image, PROMPT)
    assert np.array_equal(default.image_scores, span.image_scores)
    assert "<end_of_turn>" not in default.spans[0].tokens
    assert default.spans[0].text == phantom.answer


def test_a_token_is_explained_by_its_position_in_the_sequence(explainer, phantom) -> None:
    first = explainer.explain(phantom.image, PROMPT).spans[0].token_positions[0]
    result = explainer.explain(phantom.image, PROMPT, target_token_position=first + 2)
    assert result.spans[0].token_positions == (first + 2,)
    with pytest.raises(TokenOutOfRange):
        explainer.explain(phantom.image, PROMPT, target_token_position=0)
    with pytest.raises(TokenOutOfRange):
        explainer.explain(phantom.image, PROMPT, target_token_position=10_000)


def test_the_explaining_pass_reproduces_the_answer(explainer, phantom) -> None:
    consistency = explainer.explain(phantom.image, PROMPT).consistency
    assert consistency.checked > 5
    assert consistency.misses == 0


def test_shares_add_up_and_raw_attention_is_a_distribution(explainer, phantom) -> None:
    result = explainer.explain_keyword(phantom.image, PROMPT, "consolidation")
    shares = result.shares
    assert shares.images + shares.prompt + shares.answer + shares.special == pytest.approx(1.0)
    total = result.raw_image_relevancy.sum() + result.raw_text_relevancy.sum()
    assert total == pytest.approx(1.0, abs=1e-4)


def test_several_images_have_a_map_each_on_one_scale(explainer) -> None:
    images = [make_phantom(910_100 + i).image for i in range(3)]
    result = explainer.explain(images, "Compare these.")
    assert result.image_scores.shape == (3, 16, 16)
    assert result.image_relevancy.shape == (3, 16, 16)
    assert result.image_relevancy.max() == 1.0


def test_the_word_of_the_question_is_not_taken_for_one_of_the_answer(explainer, phantom) -> None:
    with pytest.raises(KeywordNotInAnswer) as caught:
        explainer.explain_keyword(phantom.image, "Is there a pneumothorax?", "pneumothorax")
    assert phantom.answer in str(caught.value)


def test_text_before_the_image_and_a_system_prompt_move_nothing_wrongly(explainer, phantom) -> None:
    result = explainer.explain(phantom.image, [PROMPT, 0], system="You are a radiologist.")
    assert result.consistency.misses == 0
    assert overlaps_cell(phantom.mask, result.peak_cell())
    assert result.metadata["prompt"] == f"You are a radiologist.\n{PROMPT}"


def test_a_picture_may_be_an_array_or_a_file_and_gives_the_same(
    explainer, phantom, tmp_path: Path
) -> None:
    path = tmp_path / "x.png"
    phantom.image.save(path)
    whole = explainer.explain(phantom.image, PROMPT).image_scores
    assert np.array_equal(explainer.explain(path, PROMPT).image_scores, whole)
    assert np.array_equal(explainer.explain(str(path), PROMPT).image_scores, whole)
    array = np.asarray(phantom.image)
    assert np.array_equal(explainer.explain(array, PROMPT).image_scores, whole)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_the_square_round_a_long_thin_image_is_bounded(size: tuple[int, int]) -> None:
    assert prepared(Image.new("L", size, 255), pad=True).size == (8192, 8192)


@pytest.mark.parametrize("kind", ["16 bits", "transparent", "turned"])
def test_a_file_is_the_same_picture_with_and_without_the_queue(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "picture.png"
    if kind == "16 bits":
        Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16).save(path)
    elif kind == "transparent":
        Image.new("RGBA", (20, 20), (255, 0, 0, 100)).save(path)
    else:
        turned = Image.Exif()
        turned[0x0112] = 6
        ramp = np.arange(60, dtype=np.uint8).reshape(6, 10)
        Image.fromarray(ramp).save(path, exif=turned)
    there = np.asarray(read_image(path).pixels.convert("RGB"))
    assert np.array_equal(np.asarray(read_picture(path)), there)


def test_what_is_no_picture_is_refused(explainer, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"no picture")
    with pytest.raises(NotAnImage):
        explainer.explain(path, PROMPT)
    with pytest.raises(NotAnImage):
        explainer.explain(np.zeros((4, 4), dtype=np.float32), PROMPT)
    make_phantom(3).image.save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(TruncatedImage):
        explainer.explain(path, PROMPT)


def test_stages_are_reported_and_a_report_that_raises_ends_the_job(explainer, phantom) -> None:
    seen: list[tuple[Stage, float]] = []
    explainer.run(ask(phantom.image, PROMPT), lambda stage, p: seen.append((stage, p)))
    assert seen[0] == (Stage.GENERATING, 0.0)
    assert seen[-1] == (Stage.EXPLAINING, 0.0)
    assert len(seen) > 5

    def stop(stage: Stage, progress: float) -> None:
        if progress > 0:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        explainer.run(ask(phantom.image, PROMPT), stop)
    assert explainer.explain(phantom.image, PROMPT).generated_text == phantom.answer


def test_threads_take_turns_and_get_their_own_maps(explainer) -> None:
    phantoms = [make_phantom(910_200 + i) for i in range(3)]
    alone = [explainer.explain(p.image, PROMPT).image_scores for p in phantoms]
    together: dict[int, np.ndarray] = {}

    def ask(i: int) -> None:
        together[i] = explainer.explain(phantoms[i].image, PROMPT).image_scores

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(together[i], alone[i]) for i in range(3))


def test_nothing_of_an_explanation_stays_in_the_model(explainer, phantom) -> None:
    explainer.explain(phantom.image, PROMPT)
    assert all(p.grad is None and not p.requires_grad for p in explainer.model.parameters())
    hooks = sum(len(m._forward_hooks) + len(m._backward_hooks) for m in explainer.model.modules())
    before = hooks
    explainer.explain(phantom.image, PROMPT)
    hooks = sum(len(m._forward_hooks) + len(m._backward_hooks) for m in explainer.model.modules())
    assert hooks == before


def test_nan_is_an_error_that_names_the_layer_and_never_a_picture() -> None:
    model, processor, _ = load_medgemma("phantom", device="cpu")
    layer = model.model.language_model.layers[3].self_attn
    ids = torch.full((1, 12), 40)
    kinds = torch.zeros_like(ids)
    embeddings = embed(model, ids, kinds, None)

    def spoil(module, args, output):  # type: ignore[no-untyped-def]
        # The values flow on unharmed; the gradient that comes back does not.
        return (_Spoil.apply(output[0]), *output[1:])

    handle = layer.register_forward_hook(spoil)
    try:
        with pytest.raises(NonFiniteRelevancy) as caught:
            relevancy_row(model, embeddings, kinds, ids[0], (11,))
    finally:
        handle.remove()
    assert caught.value.details["layer"] == 3
    del processor


class _Spoil(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return gradient * float("nan")


def test_the_phantom_loads_as_float32_from_float16_on_disk(explainer) -> None:
    assert explainer.model.dtype == torch.float32
    assert next(explainer.model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("name", ["no/such-folder-here", "."])
def test_a_model_that_cannot_be_loaded_says_what_to_do(name: str, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadFailed, match="HF_TOKEN"):
        load_medgemma(name, device="cpu")


def test_a_text_that_cannot_be_used_is_an_error_of_ours_that_does_not_quote_it(explainer) -> None:
    image = Image.new("L", (8, 8))
    for prompt in ("canary-name " * 10_000, "  "):
        with pytest.raises(RequestError) as caught:
            explainer.explain(image, prompt)
        assert "canary" not in str(caught.value)
    with pytest.raises(RequestError):
        explainer.explain_keyword(image, PROMPT, "")
    with pytest.raises(RequestError):
        explainer.explain([], PROMPT)
