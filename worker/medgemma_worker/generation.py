"""Greedy decoding, once for a question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Gemma3ForConditionalGeneration,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)

from medgemma_worker.prompt import Prompt


class _Progress(StoppingCriteria):  # type: ignore[misc]
    """Stops nothing: tells how far decoding has come, and lets a cancellation out of the loop."""

    def __init__(self, prompt_length: int, limit: int, tell: Callable[[float], None]) -> None:
        self._prompt_length = prompt_length
        self._limit = limit
        self._tell = tell

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self._tell((input_ids.shape[1] - self._prompt_length) / self._limit)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def end_tokens(model: Gemma3ForConditionalGeneration) -> frozenset[int]:
    """The ids that end an answer."""
    ends = model.generation_config.eos_token_id
    return frozenset([ends] if isinstance(ends, int) else ends or [])


def generate(
    model: Gemma3ForConditionalGeneration,
    prompt: Prompt,
    *,
    max_new_tokens: int,
    tell: Callable[[float], None],
) -> list[int]:
    """The ids of the greedy answer, its end marker included if it came.

    ``tell`` is called for each token with the fraction of ``max_new_tokens`` used; it may raise.
    """
    defaults = model.generation_config
    # A fresh configuration: the checkpoint's own may ask for sampling.
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=defaults.eos_token_id,
        pad_token_id=defaults.pad_token_id,
        bos_token_id=defaults.bos_token_id,
        use_cache=True,
    )
    output = model.generate(
        input_ids=prompt.input_ids,
        attention_mask=torch.ones_like(prompt.input_ids),
        token_type_ids=prompt.token_type_ids,
        pixel_values=prompt.pixel_values,
        generation_config=config,
        stopping_criteria=StoppingCriteriaList([_Progress(prompt.length, max_new_tokens, tell)]),
    )
    generated: list[int] = output[0, prompt.length :].tolist()
    return generated
