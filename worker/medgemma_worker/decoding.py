"""Keys and values of several answers that grow together, one token each at a step.

Every row's prompt ends at the same place, so a step writes all rows at one place; what lies before
a shorter prompt is padding that no row sees. Everything is written in place and all that a step
needs lies on the device: a step can be recorded once and run again (``recording``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Gemma3ForConditionalGeneration

FULL, SLIDING = "full_attention", "sliding_attention"


class KeyValues:
    """What B rows have been read and have said: room for ``places`` tokens of each.

    A layer with a window of W keeps the last W places only, as a ring: the order of keys makes no
    difference to attention, since their positions are in them already. In place of transformers'
    caches, which know no rows of different lengths without a mask over all of them in each layer,
    and roll a full window at each step.
    """

    def __init__(
        self, model: Gemma3ForConditionalGeneration, rows: int, places: int, *, whole: bool = False
    ) -> None:
        """whole: let each step look over all places (those not yet written are masked), so that its
        shapes never change."""
        config: Any = model.config.text_config
        self.rows = rows
        self.whole = whole
        self._kinds: list[str] = list(config.layer_types)
        self._sizes = {FULL: places, SLIDING: min(int(config.sliding_window), places)}
        heads, width = int(config.num_key_value_heads), int(config.head_dim)
        # Zeros, not whatever lay there: a place that is masked still is multiplied by 0.
        self._kept = [
            torch.zeros(
                2, rows, heads, self._sizes[kind], width, dtype=model.dtype, device=model.device
            )
            for kind in self._kinds
        ]
        self._seen = {
            kind: torch.zeros(rows, 1, 1, size, dtype=torch.bool, device=model.device)
            for kind, size in self._sizes.items()
        }
        self.tokens = torch.zeros(rows, 1, dtype=torch.long, device=model.device)
        """The last token of each row: what the next step reads."""
        self._positions = torch.zeros(rows, 1, dtype=torch.long, device=model.device)
        self._place = torch.zeros(1, dtype=torch.long, device=model.device)
        self._slots: dict[str, Tensor] = {}
        self._written = 0

    @staticmethod
    def bytes(model: Gemma3ForConditionalGeneration, rows: int, places: int) -> int:
        """Bytes of the keys and values of so many rows and places."""
        config: Any = model.config.text_config
        sizes = {FULL: places, SLIDING: min(int(config.sliding_window), places)}
        each = 2 * int(config.num_key_value_heads) * int(config.head_dim) * model.dtype.itemsize
        return int(rows * each * sum(sizes[kind] for kind in config.layer_types))

    def begin(self, lengths: Sequence[int]) -> None:
        """Forget everything; prompts of these lengths will be read, into the first rows."""
        end = max(lengths)
        self.tokens.zero_()
        for kept in self._kept if self._written else ():
            kept.zero_()
        for kind, size in self._sizes.items():
            self._seen[kind].zero_()
            for row, length in enumerate(lengths):
                shown = torch.arange(max(end - length, end - size), end) % size
                self._seen[kind][row, 0, 0, shown.to(self._place.device)] = True
        positions = torch.zeros_like(self._positions)
        positions[: len(lengths), 0] = torch.tensor(lengths, device=positions.device)
        self._positions.copy_(positions)
        self._place.fill_(end)
        self._written = end

    def read(self, rows: Sequence[int], layer: int, keys: Tensor, values: Tensor) -> None:
        """Take a layer's keys and values (b, K, S, D) of whole prompts, for these rows."""
        size = self._sizes[self._kinds[layer]]
        first = self._written - keys.shape[2]
        places = torch.arange(max(first, self._written - size), self._written) % size
        at = torch.tensor(rows)[:, None].to(keys.device), places[None].to(keys.device)
        for kept, new in zip(self._kept[layer], (keys, values), strict=True):
            # Indexed by row and place, so that heads come last: (b, places, K, D).
            kept.transpose(1, 2)[at] = new[:, :, -len(places) :].transpose(1, 2)

    def step(self, model: Gemma3ForConditionalGeneration) -> None:
        """Read the last token of each row, and put the most likely next one into ``tokens``."""
        for kind, size in self._sizes.items():
            self._slots[kind] = self._place % size
            self._seen[kind].index_fill_(3, self._slots[kind], True)
        self._written += 1
        logits = model(
            inputs_embeds=model.get_input_embeddings()(self.tokens),
            attention_mask={kind: self._used(seen, kind) for kind, seen in self._seen.items()},
            position_ids=self._positions,
            past_key_values=self,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        self.tokens.copy_(logits[:, -1].argmax(dim=-1, keepdim=True))
        self._positions += 1
        self._place += 1

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """What a layer of transformers asks of a cache: keep (B, K, 1, D), give all."""
        kind = self._kinds[layer]
        for kept, new in zip(self._kept[layer], (keys, values), strict=True):
            kept.index_copy_(2, self._slots[kind], new)
        return self._used(self._kept[layer][0], kind, 2), self._used(self._kept[layer][1], kind, 2)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order."""
        at = torch.tensor(rows, device=self._place.device)
        self.rows = len(rows)
        self._kept = [kept[:, at] for kept in self._kept]
        self._seen = {kind: seen[at] for kind, seen in self._seen.items()}
        self.tokens, self._positions = self.tokens[at], self._positions[at]

    def _used(self, of_places: Tensor, kind: str, axis: int = 3) -> Tensor:
        """The places written so far, unless all are wanted."""
        if self.whole:
            return of_places
        return of_places.narrow(axis, 0, min(self._written, self._sizes[kind]))


class Reading:
    """The cache of a pass that reads prompts of one length into some rows: nothing came before."""

    def __init__(self, kept: KeyValues, rows: Sequence[int]) -> None:
        self._kept, self._rows = kept, rows

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        self._kept.read(self._rows, layer, keys, values)
        return keys, values

    # What transformers builds its masks from.

    def get_query_offset(self, layer: int = 0) -> int:
        return 0

    def get_seq_length(self, layer: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer: int) -> tuple[int, int]:
        return query_length, 0


def of_one_length(lengths: Sequence[int], rows: Iterable[int]) -> list[list[int]]:
    """The rows in groups of one length, in the order in which the lengths come."""
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(lengths[row], []).append(row)
    return list(groups.values())
