"""A device that does each step at once, in the thread that wants it."""

from __future__ import annotations

from medgemma_tasks.errors import MedGemmaError
from medgemma_tasks.models import Stage
from medgemma_worker.engine import Answered, Engine, Found, Prepared
from medgemma_worker.wrappers.run import Run


class Direct:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def answer(self, run: Run, prepared: Prepared) -> Answered:
        run.report(Stage.GENERATING, 0.0)
        (answered,) = self._engine.answer([prepared], lambda _: ())
        if isinstance(answered, MedGemmaError):
            raise answered
        return answered

    def explain(self, run: Run, answered: Answered) -> Found:
        run.report(Stage.EXPLAINING, 0.0)
        (found,) = self._engine.explain(
            [answered], lambda progress: run.report(Stage.EXPLAINING, progress)
        )
        return found
