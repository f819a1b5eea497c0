"""What a pass will take is known before it begins, and one that cannot fit does not begin."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medgemma_tasks.errors import OutOfMemory
from medgemma_worker.relevancy import memory
from medgemma_worker.relevancy.memory import free_bytes, must_checkpoint, pass_bytes
from tests.worker.tiny import tiny_model

CPU = torch.device("cpu")
FLOAT = torch.float32


@pytest.fixture(scope="module")
def config():  # type: ignore[no-untyped-def]
    return tiny_model().config.text_config


def free(monkeypatch: pytest.MonkeyPatch, count: float) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(count))


def test_activations_are_kept_where_they_fill_a_part_of_what_is_free(config, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    kept = pass_bytes(config, 10_000, FLOAT, CPU, checkpoint=False)
    free(monkeypatch, kept / memory.SHARE * 1.01)
    assert not must_checkpoint(config, 10_000, FLOAT, CPU)
    free(monkeypatch, kept / memory.SHARE * 0.99)
    assert must_checkpoint(config, 10_000, FLOAT, CPU)


def test_what_cannot_fit_even_recomputed_is_refused_with_what_it_needs(config, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    needed = pass_bytes(config, 10_000, FLOAT, CPU, checkpoint=True)
    free(monkeypatch, needed * 1.01)
    assert must_checkpoint(config, 10_000, FLOAT, CPU)
    free(monkeypatch, needed * 0.99)
    with pytest.raises(OutOfMemory, match="10000 positions") as refused:
        must_checkpoint(config, 10_000, FLOAT, CPU)
    assert refused.value.details["needed"] == needed


def test_a_batch_takes_as_many_times_the_memory(config, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    free(monkeypatch, pass_bytes(config, 10_000, FLOAT, CPU, checkpoint=True) * 2)
    assert must_checkpoint(config, 10_000, FLOAT, CPU)
    with pytest.raises(OutOfMemory):
        must_checkpoint(config, 10_000, FLOAT, CPU, batch=4)


def test_beyond_whole_masks_memory_grows_with_the_length_alone(config) -> None:  # type: ignore[no-untyped-def]
    one, two = (pass_bytes(config, n, FLOAT, CPU, checkpoint=True) for n in (50_000, 100_000))
    assert two < 2 * one


def test_a_container_has_what_its_limit_leaves(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    without = free_bytes(CPU)
    assert without > 0
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 700000\nactive_file 50000\ninactive_file 100000\n")
    assert free_bytes(CPU) == 250_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(CPU) > 250_000
