"""What a person is told of a result."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from medgemma_cli.telling import print_result
from medgemma_client.result import Result
from medgemma_tasks.ledger import Ledger
from tests.parts import JOB, boto_session, ledger, live, record_of, redis_fake, settings, store

__all__ = ["boto_session", "ledger", "live", "redis_fake", "settings", "store"]

ANSWER = "There is a large pneumothorax on the left.\n\nThe heart is of normal size."


@pytest.fixture
def result(ledger: Ledger) -> Result:
    fields = {"answer": ANSWER, "targets": (), "consistency": None}
    return Result(record_of(JOB).model_copy(update=fields), ledger)


def test_a_pipe_gets_the_answer_as_it_is(
    result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    print_result(result, None)
    assert capsys.readouterr().out.startswith(f"Answer     {ANSWER}\n")


def test_in_a_terminal_all_of_it_stands_below_its_beginning(
    result: Result, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((40, 24)))
    print_result(result, None)
    assert capsys.readouterr().out.splitlines()[:4] == [
        "Answer     There is a large pneumothorax",
        "           on the left.",
        "",
        "           The heart is of normal size.",
    ]
