from __future__ import annotations

import subprocess
import sys

import pytest

from medgemma_tasks.errors import StoreUnreachable
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ServedModel
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from medgemma_worker.board import Board
from medgemma_worker.process import Process
from tests.stub_engine import StubEngine


def test_what_is_served_is_published_once(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[ServedModel] = []
    monkeypatch.setattr(Ledger, "publish_model", lambda self, served: published.append(served))
    process = Process(settings, StubEngine(), Board())
    process.publish_model()
    process.publish_model()
    assert published == [StubEngine().served]


def test_publishing_is_tried_again_when_the_store_was_away(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[ServedModel] = []

    def failing(self: Ledger, served: ServedModel) -> None:
        tries.append(served)
        if len(tries) == 1:
            raise StoreUnreachable("away")

    monkeypatch.setattr(Ledger, "publish_model", failing)
    process = Process(settings, StubEngine(), Board())
    for _ in range(3):
        process.publish_model()
    assert len(tries) == 2


def test_the_parent_of_a_worker_imports_no_torch() -> None:
    program = (
        "import sys\n"
        "from medgemma_worker.app import app\n"
        "app.finalize()\n"
        "wrong = {'torch', 'transformers', 'accelerate'} & set(sys.modules)\n"
        "sys.exit(f'imported {wrong}' if wrong else 0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_board_are_down_at_first_and_after_the_work() -> None:
    board = Board()
    assert not board.busy
    with board.working():
        assert board.busy
    assert not board.busy
    assert not board.failed
