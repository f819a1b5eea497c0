"""Which devices a worker machine serves: the value of ``--gpus``, made into a list.

GPUs are listed by ``nvidia-smi`` in a process of its own. Nothing here imports torch or touches
CUDA: the supervisor forks, and a CUDA context does not survive that.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from medgemma_tasks.errors import DeviceError
from medgemma_worker.supervisor.nvidia_smi import NotAnswered, ask

log = logging.getLogger(__name__)

_GPU = re.compile(r"^GPU (?P<index>\d+):.*\(UUID: (?P<uuid>GPU-[^)]+)\)")
_MIG = re.compile(r"^\s+MIG .*Device\s+(?P<index>\d+):\s*\(UUID: (?P<uuid>MIG-[^)]+)\)")


@dataclass(frozen=True)
class Device:
    """What one worker process runs on.

    ``name`` (``gpu-0``, ``gpu-1-mig-0``, ``cpu``) counts as nvidia-smi counts and is part of the
    worker's node name. ``visible`` is the UUID to put into CUDA_VISIBLE_DEVICES, None for the CPU.
    """

    name: str
    visible: str | None


CPU = Device("cpu", None)


@dataclass(frozen=True)
class _Listed:
    """A device of nvidia-smi. ``gpu`` is the index of its GPU, also for a MIG device."""

    device: Device
    gpu: int
    uuid: str


def parse_devices(gpus: str, environ: Mapping[str, str] = os.environ) -> list[Device]:
    """The devices that ``--gpus`` names: ``all``, ``cpu`` or ``none``, or a list of indices as
    nvidia-smi counts them, ``GPU-`` and ``MIG-`` UUIDs, separated by commas.

    The index of a GPU that is divided stands for all its MIG devices. A CUDA_VISIBLE_DEVICES that
    is set already bounds the choice. ``all`` without any GPU is the CPU, with a warning.

    Raises DeviceError for a device that is not there, one named twice, or nothing named at all.
    """
    wanted = [entry.strip() for entry in gpus.split(",")]
    if wanted in (["cpu"], ["none"]):
        return [CPU]
    listed, trouble = _list_devices()
    allowed = _bounded(listed, environ.get("CUDA_VISIBLE_DEVICES"))
    if wanted == ["all"]:
        if not allowed:
            log.warning("No GPU is to be had (%s): one worker runs on the CPU.", trouble)
            return [CPU]
        return [one.device for one in allowed]
    chosen = [one.device for entry in wanted for one in _find(entry, allowed, trouble)]
    twice = sorted({device.name for device in chosen if chosen.count(device) > 1})
    if twice:
        raise DeviceError(
            f"--gpus names {', '.join(twice)} twice; one device takes one worker.", devices=twice
        )
    return chosen


def _list_devices() -> tuple[list[_Listed], str]:
    """Every device of this machine, and why there is none when there is none."""
    try:
        return _read_listing(ask("-L")), "nvidia-smi lists none"
    except NotAnswered as trouble:
        return [], str(trouble)


def _read_listing(text: str) -> list[_Listed]:
    """Read ``nvidia-smi -L``. A GPU with MIG devices is replaced by them: CUDA cannot use both."""
    gpus: dict[int, list[_Listed]] = {}
    whole: dict[int, _Listed] = {}
    gpu = -1
    for line in text.splitlines():
        if match := _GPU.match(line):
            gpu, uuid = int(match["index"]), match["uuid"]
            whole[gpu] = _Listed(Device(f"gpu-{gpu}", uuid), gpu, uuid)
            gpus[gpu] = []
        elif (match := _MIG.match(line)) and gpu in gpus:
            name, uuid = f"gpu-{gpu}-mig-{match['index']}", match["uuid"]
            gpus[gpu].append(_Listed(Device(name, uuid), gpu, uuid))
    return [one for index, parts in gpus.items() for one in parts or [whole[index]]]


def _bounded(listed: list[_Listed], visible: str | None) -> list[_Listed]:
    """What CUDA_VISIBLE_DEVICES leaves of the devices, in its order; all when it is not set."""
    if visible is None:
        return listed
    allowed: list[_Listed] = []
    for entry in (part.strip() for part in visible.split(",")):
        found = _matches(entry, listed)
        if not found:  # as CUDA does: the list ends at the first entry that is not there
            break
        allowed += [one for one in found if one not in allowed]
    return allowed


def _find(entry: str, allowed: list[_Listed], trouble: str) -> list[_Listed]:
    found = _matches(entry, allowed)
    if found:
        return found
    there = _described(allowed) or f"no GPU ({trouble}, or CUDA_VISIBLE_DEVICES hides it)"
    raise DeviceError(
        f"--gpus names {entry!r}, which is not there. There is: {there}. "
        "Use all, cpu, or indices and UUIDs separated by commas.",
        asked=entry,
    )


def _matches(entry: str, listed: Iterable[_Listed]) -> list[_Listed]:
    """The devices an entry stands for: those of a GPU by index, or one by its UUID."""
    if entry.isascii() and entry.isdigit():
        return [one for one in listed if one.gpu == int(entry)]
    return [one for one in listed if one.uuid == entry]


def _described(listed: list[_Listed]) -> str:
    return ", ".join(f"{one.device.name} ({one.uuid})" for one in listed)
