"""Steps of decoding recorded once as a CUDA graph, and run again with a single launch.

A step of MedGemma 4B is some thousands of small kernels; launching them one by one takes longer
than the card needs to read the weights. No GPU was at hand when this was written: what a CPU can
tell, that steps over fixed shapes say the same as plain ones, is tested; the graph itself is not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import torch
from transformers import Gemma3ForConditionalGeneration

from medgemma_worker.decoding import KeyValues
from medgemma_worker.generation import Decoder, Plain
from medgemma_worker.relevancy.memory import free_bytes

log = logging.getLogger(__name__)

Replay = Callable[[], None]
Record = Callable[[Callable[[], None], torch.device], Replay]
"""Turns a step, which reads and writes the same tensors each time, into a faster one."""

WARM = ((1, 768), (8, 768))
"""Rows and places of what is recorded at the start: a picture, a question and 300 new tokens."""

KEPT = 4
"""Recordings kept, each with its keys and values."""

SHARE = 0.25
"""Part of the free memory that a recording's keys and values may fill; beyond, none is made."""


@torch.no_grad()
def cuda_graph(step: Callable[[], None], device: torch.device) -> Replay:
    """A step as a CUDA graph. Raises what CUDA raises where it cannot be captured."""
    # Kernels choose and allocate what they need in their first runs, on a stream of their own.
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(2):
            step()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # Other threads pin memory for the next questions meanwhile, which a global capture forbids.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    replay: Replay = graph.replay
    return replay


class Recorded:
    """A decoder (``generation.Decoder``) that records its steps, by rows and places.

    Where that fails it goes on with plain steps, and says so once. Tests replace ``record``.
    """

    def __init__(self, model: Gemma3ForConditionalGeneration, record: Record = cuda_graph) -> None:
        self._model, self._record = model, record
        self._plain = Plain(model)
        self._refused = False
        self._recorded: dict[tuple[int, int], tuple[KeyValues, Replay]] = {}

    def warm(self, shapes: Iterable[tuple[int, int]] = WARM) -> None:
        """Record the usual shapes before the first question comes."""
        for rows, places in shapes:
            self.room(rows, places)

    def release(self) -> None:
        """Give back the memory of all recordings; they are made again when asked for."""
        self._recorded.clear()

    def room(self, rows: int, places: int) -> KeyValues:
        """Room for as many or more, recorded; or plain room."""
        shape = rows_recorded(rows), places_recorded(places)
        if shape not in self._recorded and not self._made(shape):
            return self._plain.room(rows, places)
        self._recorded[shape] = self._recorded.pop(shape)  # the last used stands last
        return self._recorded[shape][0]

    def step(self, kept: KeyValues) -> None:
        for recorded, replay in self._recorded.values():
            if recorded is kept:
                return replay()
        return self._plain.step(kept)

    def _made(self, shape: tuple[int, int]) -> bool:
        """Whether there is a recording of the shape now."""
        while len(self._recorded) >= KEPT:
            del self._recorded[next(iter(self._recorded))]
        size = KeyValues.bytes(self._model, *shape)
        if self._refused or size > SHARE * free_bytes(self._model.device):
            return False
        try:
            kept = KeyValues(self._model, *shape, whole=True)
            replay = self._record(lambda: kept.step(self._model), self._model.device)
        except (torch.cuda.OutOfMemoryError, MemoryError):
            self.release()
            return False
        except Exception as error:  # noqa: BLE001 - whatever a driver says, plain steps still work
            self._refused = True
            self.release()
            # By its class: what a driver says may name files. No prompt has been read here yet.
            log.warning(
                "Decoding cannot be recorded (%s at %d rows of %d places); each step is launched "
                "by itself, which is slower.",
                type(error).__name__,
                *shape,
            )
            return False
        self._recorded[shape] = (kept, replay)
        return True


def rows_recorded(rows: int) -> int:
    """1, 2, 4, 8, ...: rows that nobody uses cost next to nothing."""
    return 1 << (rows - 1).bit_length()


def places_recorded(places: int) -> int:
    """The next multiple of 256, and of 2,048 beyond that."""
    step = 256 if places <= 2048 else 2048
    return -(-places // step) * step


def decoder_for(model: Gemma3ForConditionalGeneration) -> Decoder:
    """Recorded steps on CUDA; elsewhere there is nothing to gain by them."""
    return Recorded(model) if model.device.type == "cuda" else Plain(model)
