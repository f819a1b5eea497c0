"""What memory the device has, and giving that of the process back to the system.

A long-lived child frees blocks of many sizes, and the C library keeps them: its resident memory
grew with each job, as far as was seen, though nothing was held. Asked to trim now and then it
levels off (benchmarks/soak.py).
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

EVERY = 20
"""Shards between two trims, each of which takes some milliseconds."""


def trim() -> None:
    """Let the C library return what it does not use. Elsewhere than with glibc, nothing."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def of_device() -> tuple[int, int, int]:
    """Bytes used, the most that were used so far, and all there are.

    On CUDA: what torch holds of the card for this process, used or kept for later, and the size of
    the card. Elsewhere the device is this machine: resident memory of this process, its peak, and
    the machine's memory. Imports no torch: who did not has no device of torch's.
    """
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        held, most = torch.cuda.memory_reserved(), torch.cuda.max_memory_reserved()
        return (
            held,
            most,
            torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory,
        )
    page = os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resident = peak
    with suppress(OSError):  # there is no /proc elsewhere than on Linux
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
    return resident, max(peak, resident), os.sysconf("SC_PHYS_PAGES") * page
