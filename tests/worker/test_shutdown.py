from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from medgemma_worker.shutdown import Flags, install


@pytest.mark.parametrize(
    ("exitcode", "failed", "raised"),
    [(None, False, False), (0, False, False), (1, False, True), (None, True, True)],
)
def test_a_worker_that_crashed_or_could_not_load_says_so_with_its_status(
    exitcode: int | None, failed: bool, raised: bool
) -> None:
    """Celery drops both, and a supervisor would read an orderly end."""

    class Worker:
        def start(self) -> None:
            self.exitcode = exitcode

    app: Any = SimpleNamespace(Worker=Worker)
    flags = Flags()
    install(app, flags)
    if failed:
        flags.fail()
    worker = app.Worker()
    if raised:
        with pytest.raises(SystemExit) as caught:
            worker.start()
        assert caught.value.code == 1
    else:
        worker.start()
