"""The result of a job, for asyncio: what is fetched from the store is awaited."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from medgemma_client.aio.like import like
from medgemma_client.aio.threads import Threads
from medgemma_client.result import Result
from medgemma_tasks.models import ExplanationRecord, ExplanationRequest, TargetRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medgemma_tasks.explanation import ExplanationResult

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(
    method: Callable[Concatenate[Result, P], T],
) -> Callable[Concatenate[AsyncResult, P], Coroutine[Any, Any, T]]:
    """The method, in a thread."""

    async def call(self: AsyncResult, /, *args: Any, **options: Any) -> T:
        return await self._threads.run(method, self._result, *args, **options)

    call.__name__, call.__qualname__ = method.__name__, f"Async{method.__qualname__}"
    return like(method)(call)


class AsyncResult:
    """As ``Result``. What the record says is there at once; what has to be fetched is awaited,
    also what is a property there: ``await result.heatmap()``."""

    def __init__(self, result: Result, threads: Threads) -> None:
        self._result = result
        self._threads = threads

    def __repr__(self) -> str:
        return f"AsyncResult({self.job_id!r})"  # no answer: it is patient data

    def _repr_html_(self) -> str:
        """As ``Result``'s. Displaying knows no await: what the card shows is fetched here and now,
        for a person who looks at a notebook."""
        return self._result._repr_html_()

    @property
    def record(self) -> ExplanationRecord:
        return self._result.record

    @property
    def job_id(self) -> str:
        return self._result.job_id

    @property
    def answer(self) -> str:
        """What the model said, without its thinking."""
        return self._result.answer

    @property
    def thinking(self) -> str | None:
        """What the model thought aloud before it answered, where it does that."""
        return self._result.thinking

    @property
    def targets(self) -> tuple[TargetRecord, ...]:
        """What was explained, in the order asked for: each target's span, shares and scores."""
        return self._result.targets

    @property
    def is_volume(self) -> bool:
        """Whether the images are slices that say where they lie in the patient."""
        return self._result.is_volume

    @like(Result.slice_shares)
    def slice_shares(self, *args: Any, **options: Any) -> tuple[float, ...]:
        return self._result.slice_shares(*args, **options)

    async def scores(self) -> NDArray[np.float32]:
        """As ``Result.scores``."""
        return await self._threads.run(lambda: self._result.scores)

    async def heatmaps(self) -> NDArray[np.float32]:
        """As ``Result.heatmaps``."""
        return await self._threads.run(lambda: self._result.heatmaps)

    async def heatmap(self) -> NDArray[np.float32]:
        """As ``Result.heatmap``."""
        return await self._threads.run(lambda: self._result.heatmap)

    async def explanation(self) -> ExplanationResult:
        """As ``Result.explanation``."""
        return await self._threads.run(lambda: self._result.explanation)

    async def explanations(self) -> tuple[ExplanationResult, ...]:
        """As ``Result.explanations``."""
        return await self._threads.run(lambda: self._result.explanations)

    async def request(self) -> ExplanationRequest:
        """As ``Result.request``."""
        return await self._threads.run(lambda: self._result.request)

    async def notes(self) -> tuple[str, ...]:
        """As ``Result.notes``."""
        return await self._threads.run(lambda: self._result.notes)

    artifact = _awaited(Result.artifact)
    artifact_urls = _awaited(Result.artifact_urls)
    boxes = _awaited(Result.boxes)
    boxes_overlay = _awaited(Result.boxes_overlay)
    image = _awaited(Result.image)
    nifti = _awaited(Result.nifti)
    overlay = _awaited(Result.overlay)
    peak = _awaited(Result.peak)
    report = _awaited(Result.report)
    report_html = _awaited(Result.report_html)
    save = _awaited(Result.save)
    slices = _awaited(Result.slices)
    to_dicom = _awaited(Result.to_dicom)
