"""The GPUs, as nvidia-smi sees them: in a process of its own, without CUDA."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from medgemma_cli.doctor.finding import Part, Told, failed, not_applicable, ok, warning

FIELDS = "index,name,driver_version,memory.total,memory.used,mig.mode.current"

BUSY = 0.1
"""Part of the memory that is used, from which on somebody works there."""


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine. Memory in MiB, as nvidia-smi tells it."""

    index: int
    name: str
    driver: str
    total: float
    used: float
    divided: bool
    """Whether it is in MIG mode."""


class Devices:
    """The checks of this machine's GPUs. ``wanted``: MEDGEMMA_DEVICE, where it could be read."""

    def __init__(self, wanted: str | None) -> None:
        self._wanted = wanted or "auto"
        self.gpus: list[Gpu] = []
        """What was found; after ``driver``."""

    def part(self) -> Part:
        return "gpu", [("driver", self.driver), ("devices", self.devices), ("MIG", self.mig)]

    def driver(self) -> Told:
        """Whether nvidia-smi works, which it does where the driver does."""
        from medgemma_worker.supervisor.nvidia_smi import NotAnswered, Trouble, ask

        advice = {
            Trouble.MISSING: "Install NVIDIA's driver; in a container, start it with the GPUs.",
            Trouble.SILENT: "Look for errors of the GPU in the kernel's log (Xid), and start the "
            "machine anew.",
            Trouble.UNUSABLE: "Install the driver anew.",
            Trouble.FAILED: "Load the driver that belongs to this nvidia-smi: after an update, "
            "start the machine anew.",
        }
        try:
            self.gpus = _read(ask(f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"))
        except NotAnswered as error:
            found = str(error)
            if error.trouble is Trouble.MISSING:
                if not self._wanted.startswith("cuda"):
                    return not_applicable(f"{found}: no GPU is used here.")
                found = f"MEDGEMMA_DEVICE is {self._wanted}, and {found}"
            return failed(f"{found}.", advice[error.trouble])
        if not self.gpus:
            return failed("nvidia-smi lists no GPU.", "In a container, start it with the GPUs.")
        return ok(f"Version {self.gpus[0].driver}, {len(self.gpus)} of NVIDIA's GPUs.")

    def devices(self) -> Told:
        found = "; ".join(
            f"{gpu.index}: {gpu.name}, {gpu.used / 1024:.1f} of {gpu.total / 1024:.0f} GiB used"
            for gpu in self.gpus
        )
        if any(gpu.used > BUSY * gpu.total for gpu in self.gpus):
            return warning(
                f"{found}.",
                "A worker that runs here explains that. Else see with nvidia-smi whose it is: one "
                "GPU takes one worker.",
            )
        return ok(f"{found}.")

    def mig(self) -> Told:
        from medgemma_worker.supervisor.devices import parse_devices

        divided = [gpu.index for gpu in self.gpus if gpu.divided]
        if not divided:
            return not_applicable("No GPU is divided.")
        parts = [device.name for device in parse_devices("all", {}) if "-mig-" in device.name]
        if not parts:
            return failed(
                f"GPU {divided[0]} is in MIG mode and has no part that could be used.",
                "Make some (nvidia-smi mig -cgi ... -C), or turn MIG off.",
            )
        return ok(f"{len(parts)} parts, each of which takes a worker: {', '.join(parts)}.")


def _read(text: str) -> list[Gpu]:
    """Read the answer; a line that is none of it is passed over."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) == len(FIELDS.split(",")) and row[0].isdigit():
            index, name, driver, total, used, mig = row
            gpu = Gpu(int(index), name, driver, _number(total), _number(used), mig == "Enabled")
            found.append(gpu)
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "[N/A]", where memory is shared with the CPU
        return 0.0
