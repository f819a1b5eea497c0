"""How much memory an explaining pass will take, to choose between keeping and recomputing."""

from __future__ import annotations

import os
from typing import Any

import torch

SHARE = 0.5
"""Part of the free memory that kept activations may fill; the rest is for blocks and masks."""


def activation_bytes(config: Any, length: int, dtype: torch.dtype) -> int:
    """Bytes that autograd keeps of one pass over ``length`` positions, all text layers.

    Counted from Gemma 3's decoder layer: about 10 tensors of the hidden width (inputs of four
    norms, their float32 copies, residuals), queries and outputs of all heads and keys and values
    repeated to as many (with their rotations, about 8 in all), and 4 of the MLP's width.
    """
    heads: int = config.num_attention_heads * config.head_dim
    width: int = 10 * config.hidden_size + 8 * heads + 4 * config.intermediate_size
    return int(config.num_hidden_layers) * length * width * dtype.itemsize


def free_bytes(device: torch.device) -> int:
    """Bytes free on the device; for a CPU of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def must_checkpoint(config: Any, length: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether activations are better recomputed than kept."""
    return activation_bytes(config, length, dtype) > SHARE * free_bytes(device)
