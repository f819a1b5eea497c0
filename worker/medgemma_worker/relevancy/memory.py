"""What memory an explaining pass takes: to keep, to recompute, or to refuse before it begins."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch

from medgemma_tasks.errors import OutOfMemory
from medgemma_worker.relevancy.layer import BLOCK_ELEMENTS
from medgemma_worker.relevancy.visibility import DENSE_LENGTH

SHARE = 0.5
"""Part of the free memory that a pass which keeps its activations may fill; beyond, recompute."""

KEPT_ATTENTION = 1 << 28
"""Bytes of attention that may be kept from one target to the next: some hundred positions."""

CGROUP = Path("/sys/fs/cgroup")
"""Where a container finds its own limit (version 2)."""


def layer_bytes(config: Any, length: int, dtype: torch.dtype) -> int:
    """Bytes that autograd keeps of one text layer over ``length`` positions.

    Counted from Gemma 3's decoder layer: about 10 tensors of the hidden width (inputs of four
    norms, their float32 copies, residuals), queries and outputs of all heads and keys and values
    repeated to as many (with their rotations, about 8 in all), and 4 of the MLP's width.
    """
    heads: int = config.num_attention_heads * config.head_dim
    width: int = 10 * config.hidden_size + 8 * heads + 4 * config.intermediate_size
    return length * width * dtype.itemsize


def pass_bytes(
    config: Any,
    length: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    checkpoint: bool,
    batch: int = 1,
) -> int:
    """Bytes above the weights at the peak of an explaining pass.

    ``batch`` passages of ``length`` positions. What is kept of the layers, or with checkpointing
    their inputs and twice what one of them keeps (it and its gradients); whole masks of the two
    types of layer, boolean and as SDPA adds them, where they are made; the blocks of attention.
    Several targets may keep up to KEPT_ATTENTION beside it.
    """
    layers = int(config.num_hidden_layers)
    one = layer_bytes(config, length, dtype)
    inputs = length * int(config.hidden_size) * dtype.itemsize
    kept = layers * inputs + 2 * one if checkpoint else (layers + 1) * one
    masks = 2 * length**2 * (1 + dtype.itemsize) if length <= DENSE_LENGTH else 0
    blocks = 3 * 4 * BLOCK_ELEMENTS.get(device.type, 1 << 24)
    return batch * (kept + masks) + blocks


def attention_fits(config: Any, batch: int, length: int) -> bool:
    """Whether the float32 attention of all layers may be kept, when there are several targets."""
    heads = int(config.num_hidden_layers) * int(config.num_attention_heads)
    return batch * heads * length**2 * 4 <= KEPT_ATTENTION


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be had on the device; for a CPU, of the machine and the container."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(unused)
    return min(_of_machine(), _of_container())


def must_checkpoint(
    config: Any, length: int, dtype: torch.dtype, device: torch.device, batch: int = 1
) -> bool:
    """Whether activations are better recomputed than kept.

    Raises OutOfMemory (details: ``length``, ``needed``, ``free``, in bytes) where they would not
    fit even so: an error now, and not a process killed on the way.
    """
    free = free_bytes(device)
    if pass_bytes(config, length, dtype, device, checkpoint=False, batch=batch) <= SHARE * free:
        return False
    needed = pass_bytes(config, length, dtype, device, checkpoint=True, batch=batch)
    if needed > free:
        raise OutOfMemory(
            f"Explaining {length} positions takes about {needed / 1e9:.1f} GB and {device} has "
            f"{free / 1e9:.1f} GB free. Ask about fewer images, or a shorter text.",
            length=length,
            needed=needed,
            free=free,
        )
    return True


def _of_machine() -> int:
    """What Linux says can be had without swapping; elsewhere what is unused."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_container() -> int:
    """What is left of the container's limit, file pages not counted; without a limit, no bound."""
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such file, or the word "max"
        return 1 << 62
    cached = int(stat.get("active_file", 0)) + int(stat.get("inactive_file", 0))
    return max(limit - used + cached, 0)
