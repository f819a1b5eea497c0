"""A supervisor with two devices instead of a lone worker: ``medgemma-explainer worker``, of which
an ``nvidia-smi`` of our making says what it has."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil

from tests.faults.chaos.fleet import Worker
from tests.faults.chaos.plan import supervisor_name
from tests.service.harness import WorkerProcess


class SupervisorProcess(WorkerProcess):
    command = ("-m", "medgemma_cli", "worker", "--gpus", "all")


class Supervised(Worker):
    """A supervisor, the worker of each of its devices (a leader and its child), and who starts it
    again whenever it has ended. No two have a device in common, as all are on one host."""

    devices = 2

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(folder, number, supervisor_name(number), SupervisorProcess)
        first = self.devices * number
        self._uuids = {f"gpu-{n}": f"GPU-{n:08x}" for n in range(first, first + self.devices)}
        programs = folder / f"{self.name}-bin"
        programs.mkdir()
        listed = "\n".join(
            f"GPU {name.removeprefix('gpu-')}: made up (UUID: {uuid})"
            for name, uuid in self._uuids.items()
        )
        program = programs / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho '{listed}'\n")
        program.chmod(0o755)
        self.process.environment.update(
            PATH=f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            MEDGEMMA_DEVICE="cpu",
        )

    @property
    def serving(self) -> bool:
        return self.process.log.count("serving phantom") >= self.devices

    @property
    def given_up(self) -> int:
        return self.process.log.count("GIVEN UP")

    def leaders(self) -> list[int]:
        return [process.pid for process in _children(self.process.pid)]

    def children(self) -> list[int]:
        return [pid for pids in self.lanes().values() for pid in pids]

    def lanes(self) -> dict[str, list[int]]:
        lanes: dict[str, list[int]] = {f"{self.name} {device}": [] for device in self._uuids}
        for leader in _children(self.process.pid):
            with suppress(psutil.Error):
                for device in set(leader.cmdline()) & set(self._uuids):
                    found = [process.pid for process in _children(leader.pid)]
                    lanes[f"{self.name} {device}"] = found
        return lanes

    def signal(self, number: int) -> None:
        # It first, and stopped, so that none is started meanwhile that nobody saw.
        with suppress(psutil.Error):
            supervisor = psutil.Process(self.process.pid)
            supervisor.suspend()
            for process in self.descendants():
                with suppress(psutil.Error):
                    process.send_signal(number)
            supervisor.send_signal(number)

    def descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            return []

    def break_a_load(self, level: float) -> None:
        """From now on the first device's model is not loaded: that fails, or kills its process."""
        self._broken.write_text("fail" if level < 0.5 else "die")

    def mend_the_load(self) -> None:
        self._broken.unlink()

    @property
    def _broken(self) -> Path:
        uuid = next(iter(self._uuids.values()))
        return Path(f"{self.process.ledger_path}.broken-{uuid}")


def _children(pid: int) -> list[psutil.Process]:
    try:
        found = psutil.Process(pid).children()
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]
    except psutil.Error:
        return []
