from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from medgemma_worker import memory
from medgemma_worker.board import Board
from medgemma_worker.process import Process
from tests.stub_engine import StubEngine


def test_memory_is_given_back_after_some_shards_not_after_each(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trims: list[None] = []
    monkeypatch.setattr(memory, "trim", lambda: trims.append(None))
    process = Process(settings, StubEngine(), Board())
    for _ in range(2 * memory.EVERY):
        process.tidy_up()
    assert len(trims) == 2


def test_trimming_hurts_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    memory.trim()

    def without(name: str | None) -> object:
        return object()

    monkeypatch.setattr(memory.ctypes, "CDLL", without)
    memory.trim()


def test_on_a_cpu_the_memory_of_the_device_is_that_of_this_process_and_machine() -> None:
    used, peak, total = memory.of_device()
    assert 10_000_000 < used <= peak < total


def test_on_cuda_it_is_what_torch_holds_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        memory_reserved=lambda: 3,
        max_memory_reserved=lambda: 5,
        current_device=lambda: 0,
        get_device_properties=lambda number: SimpleNamespace(total_memory=80),
    )
    assert all(hasattr(torch.cuda, name) for name in vars(cuda))  # no card is here to ask
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert memory.of_device() == (3, 5, 80)
