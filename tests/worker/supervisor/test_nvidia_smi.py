"""What nvidia-smi does in its trouble is told in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medgemma_worker.supervisor import nvidia_smi as module
from medgemma_worker.supervisor.nvidia_smi import NotAnswered, Trouble, ask

Install = Callable[..., None]


def trouble() -> tuple[Trouble, str]:
    with pytest.raises(NotAnswered) as caught:
        ask("-L")
    return caught.value.trouble, str(caught.value)


def test_its_answer_is_given(nvidia_smi: Install) -> None:
    nvidia_smi("GPU 0")
    assert ask("-L") == "GPU 0\n"


def test_it_may_be_missing_or_not_to_be_run(nvidia_smi: Install, tmp_path: Path) -> None:
    assert trouble() == (Trouble.MISSING, "nvidia-smi is not installed")
    nvidia_smi("")
    (tmp_path / "bin/nvidia-smi").write_bytes(b"\x7fELF of another machine")
    assert trouble() == (Trouble.UNUSABLE, "nvidia-smi cannot be run: Exec format error")


def test_it_may_fail_and_the_first_line_of_what_it_says_is_told(nvidia_smi: Install) -> None:
    nvidia_smi("x" * 500 + "\nmore", 9)
    assert trouble() == (Trouble.FAILED, "nvidia-smi failed and said: " + "x" * module.LONGEST)
    nvidia_smi("", 9)
    assert trouble() == (Trouble.FAILED, "nvidia-smi failed and said: nothing")


def test_it_may_hang_as_long_as_the_driver_does(
    nvidia_smi: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi("")
    (tmp_path / "bin/nvidia-smi").write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    monkeypatch.setattr(module, "SECONDS", 0.2)
    assert trouble() == (Trouble.SILENT, "nvidia-smi did not answer within 0 s")
