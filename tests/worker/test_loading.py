"""A checkpoint is loaded whole or not at all, and named by what decides its answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from medgemma_tasks.errors import ModelLoadFailed
from medgemma_worker.loading import load_medgemma, revision_of
from medgemma_worker.phantom import checkpoint_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_path(), tmp_path / "model"))


def test_a_missing_weight_is_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if "language_model" in key and "layers.3" in key)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadFailed):
        load_medgemma(str(folder))


def test_a_cut_file_of_weights_is_an_error_of_ours(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(ModelLoadFailed):
        load_medgemma(str(folder))


def test_a_damaged_tokenizer_is_an_error_of_ours(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelLoadFailed):
        load_medgemma(str(folder))


def test_the_revision_follows_the_weights_and_not_the_notes_beside_them(folder: Path) -> None:
    model, _, _ = load_medgemma(str(folder), device="cpu", dtype="float32")
    before = revision_of(str(folder), model)
    (folder / "TRAINING.json").write_text("{}")
    assert revision_of(str(folder), model) == before
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert revision_of(str(folder), model) != before
