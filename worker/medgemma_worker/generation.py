"""Greedy decoding of several prompts together, each once for its question.

Prompts are read without padding, those of one length together; then all rows take a token at each
step. transformers' ``generate`` knows neither a limit of tokens for each row nor the embeddings
with their token types beside a cache of rows, so the loop is our own: the same passes and the same
masks, and the most likely token each time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration

from medgemma_worker.decoding import KeyValues, Reading, of_one_length
from medgemma_worker.engine import TellBatch

READ_TOGETHER = {"cpu": 1200, "cuda": 8192}
"""Tokens of prompts of one length that are read in one pass; a single longer one goes alone.
Measured on a CPU (300 to 8,192 tried, little between the best); a guess for a GPU."""


@dataclass(frozen=True, repr=False)
class Embedded:
    """A prompt as the language model takes it, on its device.

    embeddings: (1, S, hidden), images merged in. kinds: int64 (1, S), 1 on image tokens.
    """

    embeddings: Tensor
    kinds: Tensor

    @property
    def length(self) -> int:
        return int(self.kinds.shape[1])


class Decoder(Protocol):
    """What makes room for rows and takes their steps; one batch at a time."""

    def room(self, rows: int, places: int) -> KeyValues:
        """Room for at least so many rows and places."""

    def step(self, kept: KeyValues) -> None:
        """``KeyValues.step``, in whatever way."""

    def warm(self) -> None:
        """Make ready what takes time, before the first question."""

    def release(self) -> None:
        """Give back the memory that is held between batches."""


class Plain:
    """Each step as it comes, over no more places than are written."""

    def __init__(self, model: Gemma3ForConditionalGeneration) -> None:
        self._model = model

    def room(self, rows: int, places: int) -> KeyValues:
        return KeyValues(self._model, rows, places)

    def step(self, kept: KeyValues) -> None:
        kept.step(self._model)

    def warm(self) -> None:
        pass

    def release(self) -> None:
        pass


def end_tokens(model: Gemma3ForConditionalGeneration) -> frozenset[int]:
    """The ids that end an answer."""
    ends = model.generation_config.eos_token_id
    return frozenset([ends] if isinstance(ends, int) else ends or [])


def generate(
    model: Gemma3ForConditionalGeneration,
    prompt: Embedded,
    *,
    max_new_tokens: int,
    tell: Callable[[float], None],
) -> list[int]:
    """``generate_many`` for one prompt; ``tell`` gets its progress."""

    def alone(progress: Sequence[float]) -> Collection[int]:
        tell(progress[0])
        return ()

    return generate_many(model, [prompt], [max_new_tokens], tell=alone)[0]


@torch.no_grad()
def generate_many(
    model: Gemma3ForConditionalGeneration,
    prompts: Sequence[Embedded],
    limits: Sequence[int],
    *,
    tell: TellBatch,
    decoder: Decoder | None = None,
) -> list[list[int]]:
    """The ids of the greedy answers, each with its end marker if that came within its limit.

    Each row gets what it would get alone: the same tokens in exact arithmetic, and in float32 but
    for ties closer than rounding. A row that ``tell`` drops keeps what it has said so far.
    The model must have our attention (``relevancy.attention.install``).
    """
    decoder = decoder or Plain(model)
    batch = _Batch(limits, end_tokens(model), tell)
    kept = decoder.room(len(prompts), max(p.length for p in prompts) + max(limits))
    lengths = [prompt.length for prompt in prompts]
    kept.begin(lengths)
    most = READ_TOGETHER.get(model.device.type, 1200)
    for group in of_one_length(lengths, range(len(prompts))):
        together = max(1, most // lengths[group[0]])
        for i in range(0, len(group), together):
            batch.told()
            _read(model, kept, prompts, group[i : i + together])
    rows = list(range(len(prompts)))
    while batch.took(rows, kept.tokens[: len(rows), 0].tolist()):
        rows = rows if kept.whole else _narrowed(kept, rows, batch.going)
        decoder.step(kept)
    return batch.said


def _read(
    model: Gemma3ForConditionalGeneration,
    kept: KeyValues,
    prompts: Sequence[Embedded],
    rows: Sequence[int],
) -> None:
    """Read prompts of one length, and put the first token of each into ``kept.tokens``."""
    logits = model(
        inputs_embeds=torch.cat([prompts[row].embeddings for row in rows]),
        token_type_ids=torch.cat([prompts[row].kinds for row in rows]),
        past_key_values=Reading(kept, rows),
        use_cache=True,
        logits_to_keep=1,
    ).logits
    at = torch.tensor(rows, device=kept.tokens.device)
    kept.tokens[at] = logits[:, -1].argmax(dim=-1, keepdim=True)


def _narrowed(kept: KeyValues, rows: list[int], going: Collection[int]) -> list[int]:
    """Rows that are done are left behind once they are half of all."""
    if len(going) * 2 > len(rows):
        return rows
    places = [place for place, row in enumerate(rows) if row in going]
    kept.keep(places)
    return [rows[place] for place in places]


class _Batch:
    """What each row has said, and which go on."""

    def __init__(self, limits: Sequence[int], ends: frozenset[int], tell: TellBatch) -> None:
        self.said: list[list[int]] = [[] for _ in limits]
        self.going = set(range(len(limits)))
        self._limits, self._ends, self._tell = limits, ends, tell

    def told(self) -> None:
        """Tell how far each is, and let go of those that nobody wants."""
        progress = [
            len(ids) / limit if row in self.going else 1.0
            for row, (ids, limit) in enumerate(zip(self.said, self._limits, strict=True))
        ]
        self.going -= set(self._tell(progress))

    def took(self, rows: Sequence[int], tokens: Sequence[int]) -> bool:
        """Each row's next token; whether any row goes on."""
        for row, token in zip(rows, tokens, strict=True):
            if row in self.going:
                self.said[row].append(token)
                if token in self._ends or len(self.said[row]) == self._limits[row]:
                    self.going.discard(row)
        self.told()
        return bool(self.going)
