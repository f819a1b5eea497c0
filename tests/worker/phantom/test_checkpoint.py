"""The shipped files: small, loadable by the usual calls, and right about the films."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
)

from medgemma_worker.phantom import checkpoint_path
from medgemma_worker.phantom.build import build_config, build_processor
from medgemma_worker.phantom.check import Reader, measure
from medgemma_worker.phantom.images import make_phantom
from medgemma_worker.phantom.prompts import messages_for
from medgemma_worker.phantom.samples import FIRST_TRAINING_SEED


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(checkpoint_path())


def _inputs(reader: Reader, *, system: str | None = None) -> dict[str, torch.Tensor]:
    messages = messages_for(make_phantom(0).image, "Describe the finding.", system)
    return dict(
        reader.processor.apply_chat_template(
            messages,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
        )
    )


def test_naming_the_checkpoint_imports_no_torch() -> None:
    code = (
        "import sys; from medgemma_worker.phantom import checkpoint_path; checkpoint_path();"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_checkpoint_is_at_most_five_megabytes() -> None:
    assert sum(path.stat().st_size for path in checkpoint_path().iterdir()) <= 5_000_000


def test_the_usual_calls_load_the_real_classes(reader: Reader) -> None:
    assert isinstance(reader.processor, Gemma3Processor)
    assert isinstance(reader.model, Gemma3ForConditionalGeneration)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint_path(), dtype=torch.float32)
    assert isinstance(model, Gemma3ForConditionalGeneration)
    assert model.dtype == torch.float32


def test_weights_lie_on_disk_as_float16() -> None:
    model = Gemma3ForConditionalGeneration.from_pretrained(checkpoint_path(), dtype="auto")
    assert model.dtype == torch.float16


def test_the_checkpoint_belongs_to_the_code(reader: Reader) -> None:
    """The shipped tokenizer and architecture are the ones that the code builds today."""
    processor = build_processor()
    assert reader.processor.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert reader.processor.chat_template == processor.chat_template
    built, shipped = build_config(processor.tokenizer), reader.model.config
    for part in ("text_config", "vision_config"):
        one, other = getattr(built, part).to_dict(), getattr(shipped, part).to_dict()
        for key in set(one) - {"dtype", "transformers_version"}:
            assert one[key] == other[key], key


def test_the_architecture_has_what_an_explanation_can_trip_over(reader: Reader) -> None:
    text, vision = reader.model.config.text_config, reader.model.config.vision_config
    assert text.layer_types == ["sliding_attention"] * 5 + ["full_attention"]
    assert text.num_attention_heads == 2 * text.num_key_value_heads
    assert 300 < text.sliding_window < 3 * 256
    assert (vision.image_size // vision.patch_size) ** 2 == 4 * 256
    assert reader.model.config.mm_tokens_per_image == 256


def test_the_first_image_token_is_at_position_five(reader: Reader) -> None:
    ids = _inputs(reader)["input_ids"][0]
    places = (ids == reader.model.config.image_token_id).nonzero().flatten().tolist()
    assert places == list(range(5, 5 + 256))


def test_system_text_moves_the_image(reader: Reader) -> None:
    ids = _inputs(reader, system="Be brief.")["input_ids"][0]
    assert int((ids == reader.model.config.image_token_id).nonzero()[0]) > 5


def test_there_is_exactly_one_bos_and_every_image_token_is_typed(reader: Reader) -> None:
    for system in (None, "You are an expert radiologist."):
        inputs = _inputs(reader, system=system)
        ids = inputs["input_ids"][0]
        assert (ids == reader.processor.tokenizer.bos_token_id).sum() == 1
        is_image = ids == reader.model.config.image_token_id
        assert torch.equal(inputs["token_type_ids"][0] == 1, is_image)


def test_pixels_are_scaled_to_minus_one_to_one_and_nothing_else(reader: Reader) -> None:
    pixels = _inputs(reader)["pixel_values"][0]
    grey = np.asarray(make_phantom(0).image, dtype=np.float32) / 127.5 - 1
    assert pixels.shape == (3, 256, 256)
    assert np.allclose(pixels.numpy(), grey, atol=1e-6)


@pytest.mark.timeout(900)
def test_the_shipped_file_reads_held_out_films_and_survives_covering() -> None:
    """Given 120 held-out films, then 98% of answers are exact and both covering checks hold."""
    figures = measure(checkpoint_path(), films=120, covered_films=100)
    assert figures.passed(), figures


@pytest.mark.parametrize(
    "question", ["?", "Qué ves?", "Tell me a story about a ship.", "EFFUSION\n\nyes or no"]
)
def test_the_wording_of_the_question_does_not_matter(reader: Reader, question: str) -> None:
    films = [make_phantom(600_000 + seed) for seed in range(6)]
    assert [reader.answer(film.image, question) for film in films] == [f.answer for f in films]


def test_the_training_record_is_the_training_commands_own() -> None:
    record = json.loads((checkpoint_path() / "TRAINING.json").read_text())
    assert record["held_out"]["exact"] >= 0.98
    assert record["seed"] >= 0
    assert FIRST_TRAINING_SEED > 600_000
