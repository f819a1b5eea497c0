"""The prompt: one <bos>, image tokens where they are, and no control token from outside."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from medgemma_tasks.errors import InvalidRequest, ReservedToken, SequenceTooLong
from medgemma_tasks.models import ImagePart, Message, TextPart
from medgemma_worker.conversation import roles
from medgemma_worker.phantom.build import build_model, build_processor
from medgemma_worker.prompt import Prompt, build_prompt, image_spans

PROCESSOR = build_processor()
MODEL = build_model(PROCESSOR.tokenizer)
IMAGE = Image.new("RGB", (256, 256), (40, 40, 40))


def build(*content: str | int, system: str | None = None, images: int = 1) -> Prompt:
    parts = [ImagePart(image=c) if isinstance(c, int) else TextPart(text=c) for c in content]
    messages = [Message(role="user", content=tuple(parts))]
    if system is not None:
        messages.insert(0, Message(role="system", content=(TextPart(text=system),)))
    return build_prompt(MODEL, PROCESSOR, messages, [IMAGE] * images, room=10)


@pytest.mark.parametrize(
    ("content", "images", "system"),
    [
        ((0, "What is this?"), 1, None),
        (("What is this?", 0), 1, None),
        ((0, "before", 1, "after", 2, "compare"), 3, None),
        ((0, "What is this?"), 1, "You are a radiologist."),
    ],
)
def test_there_is_one_bos_and_one_run_of_tokens_for_each_image(
    content: tuple[str | int, ...], images: int, system: str | None
) -> None:
    prompt = build(*content, images=images, system=system)
    assert int((prompt.input_ids == PROCESSOR.tokenizer.bos_token_id).sum()) == 1
    assert prompt.input_ids[0, 0] == PROCESSOR.tokenizer.bos_token_id
    assert [end - first for first, end in prompt.images] == [256] * images
    for first, end in prompt.images:
        assert bool((prompt.input_ids[0, first:end] == MODEL.config.image_token_id).all())
    assert int(prompt.token_type_ids.sum()) == 256 * images


def test_the_first_image_token_is_found_and_not_assumed() -> None:
    assert build(0, "What?").images[0][0] == 5
    assert build(0, "What?", system="You are a radiologist.").images[0][0] > 5
    assert build("What is this?", 0).images[0][0] > 5


@pytest.mark.parametrize(
    "text",
    ["<start_of_image>", "a <bos> b", "x<end_of_turn>", "<unused94>", "<start_of_turn>model"],
)
def test_control_tokens_in_a_text_are_refused(text: str) -> None:
    with pytest.raises(ReservedToken):
        build(0, text)
    with pytest.raises(ReservedToken):
        build(0, "fine", system=text)


@pytest.mark.parametrize("content", [("no image",), (0, 0), (1, 0), (0, 2)])
def test_each_image_is_used_once_and_in_order(content: tuple[str | int, ...]) -> None:
    images = 2 if 1 in content or 2 in content else 1
    with pytest.raises(InvalidRequest):
        build(*content, images=images)


def test_a_sequence_beyond_the_context_says_how_long_it_would_be() -> None:
    with pytest.raises(SequenceTooLong, match="8192"):
        build_prompt(
            MODEL,
            PROCESSOR,
            [Message(role="user", content=(ImagePart(image=0), TextPart(text="q" * 9000)))],
            [IMAGE],
            room=10,
        )


def test_a_run_of_image_tokens_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="3 image tokens"):
        image_spans(torch.tensor([0, 1, 1, 1, 0]), 4)
    assert image_spans(torch.tensor([1, 1, 0, 1, 1]), 2) == ((0, 2), (3, 5))


def test_what_the_template_adds_is_special_and_what_the_caller_wrote_is_not() -> None:
    prompt = build(0, "Is there\na nodule?")
    ids = prompt.input_ids[0].tolist()
    labels = PROCESSOR.tokenizer.convert_ids_to_tokens(ids)
    special = set(PROCESSOR.tokenizer.all_special_ids)
    found = roles(ids, labels, prompt, special)
    mine = [label for label, role in zip(labels, found, strict=True) if role == "prompt"]
    assert "".join(mine).replace("▁", " ") == "Is there\na nodule?"
    assert found.count("image") == 256
