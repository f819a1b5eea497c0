"""What is printed for eyes fits into their terminal."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from medgemma_cli.terminal import folded, table


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """One of so many columns."""
    width: int = request.param
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((width, 24)))
    return width


@pytest.mark.parametrize("terminal", [80, 100, 200], indirect=True)
def test_each_row_is_one_line_of_it(terminal: int) -> None:
    rows = [["NAME", "STATE", "DONE"], ["n" * 150, "setup failed", "7"], ["short", "busy", "12"]]
    lines = table(rows, cut={"NAME"}, right={"DONE"})
    assert len(lines) == 3
    assert max(map(len, lines)) == min(terminal, 150 + 2 + 12 + 2 + 4)
    assert lines[1].endswith("setup failed     7")
    assert ("…" in lines[1]) == (terminal < 170)


def test_a_column_may_have_a_width_whatever_is_in_it() -> None:
    assert table([["JOB", "DONE"], ["-", "7"]], right={"DONE"}, least={"JOB": 6}) == [
        "JOB     DONE",
        "-          7",
    ]


@pytest.mark.parametrize("terminal", [20], indirect=True)
def test_a_name_that_is_too_long_keeps_what_tells_most(terminal: int) -> None:
    rows = [["MODEL", "WORKER"], ["google/medgemma-27b-it", "gpu-0@here.internal"]]
    assert table(rows, cut={"MODEL", "WORKER"})[1] == "…a-27b-it  gpu-0@he…"


@pytest.mark.parametrize("terminal", [20], indirect=True)
def test_a_sentence_breaks_between_words_and_never_within_a_command(terminal: int) -> None:
    said = "Run it again: medgemma-explainer requeue 0123456789abcdef0123456789abcdef"
    assert folded(said, sys.stdout).splitlines() == [
        "Run it again:",
        "medgemma-explainer",
        "requeue",
        "0123456789abcdef0123456789abcdef",
    ]
    with open(os.devnull, "w") as pipe:
        assert folded(said, pipe) == said
