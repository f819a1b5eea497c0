"""Timing in interleaved rounds, and the peak memory of a process of its own."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def timed(way: Callable[[], object], device: torch.device | None = None) -> float:
    """Seconds, the device's queue emptied before and after."""
    cuda = device is not None and device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    way()
    if cuda:
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def interleaved(
    ways: Mapping[str, Callable[[], object]], rounds: Mapping[str, int]
) -> dict[str, list[float]]:
    """Seconds by way: one warming run of each, then round by round, each way in as many rounds as
    ``rounds`` says of it. The ways of a round run one after the other, so that what else the
    machine does falls on all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(max(rounds.values()) + 1):
        for name, way in ways.items():
            if turn <= rounds[name]:
                taken = timed(way)
                if turn:
                    seconds[name].append(taken)
    return seconds


def ratio(own: list[float], base: list[float]) -> float:
    """Median of the ratios within rounds; the first rounds where one side ran fewer."""
    return statistics.median(a / b for a, b in zip(own, base, strict=False))


def peak_of(script: str, arguments: list[str]) -> float:
    """Peak MB above what was held before, as ``script --peak ...`` prints it in its own process."""
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def peak(warm: Callable[[], object], way: Callable[[], object]) -> float:
    """In this process (Linux): MB at the peak of ``way`` above what was held before it."""
    warm()  # what is loaded once is no part of it
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _held("VmRSS")
    way()
    return _held("VmHWM") - before


def _held(field: str) -> float:
    """MB of this process: VmRSS now, VmHWM at most."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def verdict(what: str, good: bool) -> bool:
    print(f"{what}: {'met' if good else 'MISSED'}", flush=True)
    return good
