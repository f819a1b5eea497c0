from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from medgemma_worker.board import Board
from medgemma_worker.exits import LOAD_FAILED
from medgemma_worker.parent.shutdown import install


@pytest.mark.parametrize(
    ("exitcode", "failed", "raised"),
    [(None, False, 0), (0, False, 0), (1, False, 1), (None, True, LOAD_FAILED)],
)
def test_a_worker_that_crashed_or_could_not_load_says_so_with_its_status(
    exitcode: int | None, failed: bool, raised: int
) -> None:
    """Celery drops both, and a supervisor would read an orderly end."""

    class Worker:
        hostname = "cpu@here"

        def start(self) -> None:
            self.exitcode = exitcode

    left: list[str] = []
    voice = SimpleNamespace(leave=left.append)
    app: Any = SimpleNamespace(Worker=Worker, voice=voice)
    board = Board()
    install(app, board)
    if failed:
        board.fail()
    worker = app.Worker()
    if raised:
        with pytest.raises(SystemExit) as caught:
            worker.start()
        assert caught.value.code == raised
    else:
        worker.start()
    assert left == ["cpu@here"]
