"""torch, and whether it can use the GPUs: in a process of its own, so that this one stays light."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from medgemma_cli.doctor.devices import Gpu
from medgemma_cli.doctor.finding import Part, Told, failed, not_applicable, ok, warning

SECONDS = 180.0
"""Longest wait: a cold disk takes a minute for torch alone."""

PROGRAM = """\
import json, torch
told = {"torch": torch.__version__, "cuda": torch.version.cuda, "gpus": []}
told["available"] = torch.cuda.is_available()
for number in range(torch.cuda.device_count() if told["available"] else 0):
    try:
        one = torch.ones(64, 64, device=f"cuda:{number}")
        right = float((one @ one).sum()) == 64.0 ** 3
        trouble = "" if right else "a product came out wrong"
    except Exception as error:
        trouble = type(error).__name__
    told["gpus"].append({"name": torch.cuda.get_device_name(number), "trouble": trouble,
                         "bfloat16": torch.cuda.get_device_capability(number)[0] >= 8})
print(json.dumps(told))
"""


class Computing:
    """The checks of torch. ``gpus``: those of this machine, asked for when it is looked."""

    def __init__(self, gpus: Callable[[], Sequence[Gpu]], python: str = sys.executable) -> None:
        self._gpus = gpus
        self._python = python
        self._told: dict[str, Any] = {}

    def part(self) -> Part:
        return "torch", [("installation", self.installation), ("CUDA", self.cuda)]

    def installation(self) -> Told:
        """Whether it is there, and can be imported."""
        if not installed("torch"):
            return not_applicable(
                "torch is not installed: this machine runs no worker.",
                "Where it is to: install medgemma-explainer[worker].",
            )
        try:
            done = subprocess.run(
                [self._python, "-c", PROGRAM],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
                # Else its own messages are longer than what it says.
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )
            self._told = json.loads(done.stdout.strip().splitlines()[-1])
        except subprocess.TimeoutExpired:
            return failed(f"torch was not imported within {SECONDS:.0f} s.", "Look at the disk.")
        except (ValueError, IndexError):
            return failed(
                "torch is installed and cannot be used.",
                "Install it anew; `python -c 'import torch'` shows why it fails.",
            )
        cuda = self._told["cuda"]
        return ok(
            f"torch {self._told['torch']}, {f'with CUDA {cuda}' if cuda else 'without CUDA'}."
        )

    def cuda(self) -> Told:
        """Whether its CUDA works with this driver: each GPU multiplies two matrices."""
        told, here = self._told, list(self._gpus())
        if not here and not told["available"]:
            return not_applicable("There is no GPU: the model runs on the CPU.")
        if told["cuda"] is None:
            return failed(
                f"There are {len(here)} GPUs, and this torch is built for the CPU alone.",
                "Install a torch with CUDA: pytorch.org/get-started tells which index has it.",
            )
        if not told["available"]:
            driver = here[0].driver if here else "unknown"
            return failed(
                f"torch with CUDA {told['cuda']} cannot use the driver {driver}.",
                "Update the driver, or install a torch for an older CUDA; see that "
                "CUDA_VISIBLE_DEVICES hides nothing.",
            )
        bad = [gpu for gpu in told["gpus"] if gpu["trouble"]]
        if bad:
            return failed(
                f"{bad[0]['name']} cannot compute ({bad[0]['trouble']}).",
                "Install a torch that is built for this GPU; look for errors of it (Xid) in the "
                "kernel's log.",
            )
        names = ", ".join(gpu["name"] for gpu in told["gpus"])
        if not all(gpu["bfloat16"] for gpu in told["gpus"]):
            return warning(
                f"It computes on {names}, not all of which have bfloat16.",
                "Set MEDGEMMA_DTYPE=float32 there; the model takes twice the memory.",
            )
        return ok(f"It computes on {names}.")


def installed(name: str) -> bool:
    """Whether a distribution is installed."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
