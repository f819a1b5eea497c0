"""From a row whose images were read to a request in the store: one put, beside what of its images
is not there yet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Event, Lock
from typing import Any, TypeVar

from medgemma_client.backfill.patience import patiently
from medgemma_client.backfill.reading import Read
from medgemma_client.backfill.rows import Row
from medgemma_client.request import Question
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.layout import input_key
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ExplanationRequest, ImageRef, ServedModel

REMEMBERED = 10_000
"""Names of images that are not asked for again."""
_ELSEWHERE = frozenset({"occurrence", "whole_word", "left_of_image", "top_of_image"})
"""Of a row's options, those that are part of its targets or its images."""

T = TypeVar("T")


class Uploader:
    """Writes inputs and requests; for many threads."""

    def __init__(self, ledger: Ledger, served: ServedModel, stop: Event) -> None:
        self._ledger, self._served, self._stop = ledger, served, stop
        self._there: OrderedDict[str, None] = OrderedDict()
        self._lock = Lock()

    def request_of(self, read: Read) -> ExplanationRequest:
        """The request of a row, as ``Client.submit`` makes it. Raises RequestError and its kin."""
        row = read.row
        question = Question.of(row.prompt, len(read.refs), row.wanted, row.system, row.answer)
        options = question.options(self._served, **_options(row))
        return question.request(
            self._ledger.tenant, self._served, options, read.refs, batch=row.priority == "batch"
        )

    def upload(self, read: Read, request: ExplanationRequest, *, anew: bool = False) -> None:
        """Its inputs, then the request; ``anew``: over whatever inputs are there.

        A request is overwritten by the same question: nobody asks whether there is one.
        """
        for ref, png in zip(read.refs, read.pngs, strict=True):
            if anew or not self._is_there(ref):
                self._patiently(lambda ref=ref, png=png: self._put(ref, png))  # type: ignore[misc]
                self._remember(ref)
        self._patiently(lambda: self._ledger.put_request(request))

    def _put(self, ref: ImageRef, png: bytes) -> None:
        self._ledger.put_input(ref, png, anew=True)

    def _is_there(self, ref: ImageRef) -> bool:
        with self._lock:
            if ref.name in self._there:
                self._there.move_to_end(ref.name)
                return True
        # The note comes after the pixels: where it lies, they do.
        note = input_key(self._ledger.tenant, ref.name, "json")
        there = self._patiently(lambda: self._ledger.store.exists(note))
        if there:
            self._remember(ref)
        return there

    def _remember(self, ref: ImageRef) -> None:
        with self._lock:
            self._there[ref.name] = None
            while len(self._there) > REMEMBERED:
                self._there.popitem(last=False)

    def _patiently(self, action: Callable[[], T]) -> T:
        return patiently(action, self._stop)


def _options(row: Row) -> dict[str, Any]:
    options = {name: value for name, value in row.options.items() if name not in _ELSEWHERE}
    if "expires" in options or "force" in options:
        raise InvalidRequest("A row takes neither a deadline nor force.")
    return options
