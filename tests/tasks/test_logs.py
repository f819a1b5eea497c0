from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from datetime import datetime
from typing import Any

import pytest

from medgemma_tasks.errors import PartMissing
from medgemma_tasks.logs import about, json_formatter, note, set_up_logs


def line(message: str = "said", exc_info: Any = None, **extra: object) -> dict[str, Any]:
    """What is written of one record."""
    record = logging.getLogger("a.logger").makeRecord(
        "a.logger", logging.WARNING, __file__, 1, message, (), exc_info, extra=extra
    )
    written = json_formatter(device="gpu-0").format(record)
    assert "\n" not in written
    found: dict[str, Any] = json.loads(written)
    return found


def test_a_line_is_an_object_of_time_level_logger_message_and_what_the_process_is_about() -> None:
    found = line("a line\nof two")
    assert datetime.fromisoformat(found.pop("time")).tzinfo is not None
    assert found == {
        "level": "WARNING",
        "logger": "a.logger",
        "message": "a line\nof two",
        "device": "gpu-0",
    }


def test_whatever_is_logged_while_a_job_runs_is_about_it_in_its_thread_alone() -> None:
    others: list[dict[str, Any]] = []
    with about(job="j" * 32):
        with about(attempt=2):
            note(stage="explaining")
            found = line()
            thread = threading.Thread(target=lambda: others.append(line()))
            thread.start()
            thread.join()
        assert "stage" not in line()
    assert (found["job"], found["attempt"], found["stage"]) == ("j" * 32, 2, "explaining")
    assert "job" not in others[0]
    assert "job" not in line()


def test_a_records_own_field_comes_first() -> None:
    with about(job="outer", attempt=1):
        found = line(job="inner", code="time_limit")
    assert (found["job"], found["attempt"], found["code"]) == ("inner", 1, "time_limit")


def test_what_a_library_attaches_or_an_exception_quotes_is_not_written() -> None:
    quoted = "can" + "ary"  # the trace has lines of code
    try:
        raise ValueError(quoted)
    except ValueError:
        found = line(exc_info=sys.exc_info(), data={"args": quoted}, patient=quoted)
    assert quoted not in json.dumps(found)
    assert found["exception"].startswith("ValueError\n")
    assert "test_logs.py" in found["exception"]


def test_json_replaces_what_was_set_up_and_text_does_not() -> None:
    program = (
        "import logging, sys\n"
        "from medgemma_tasks.logs import set_up_logs\n"
        "logging.basicConfig(level='INFO', format='old %(message)s')\n"
        "set_up_logs(sys.argv[1])\n"
        "logging.getLogger('x').info('here')\n"
    )
    said = {
        form: subprocess.run(
            [sys.executable, "-c", program, form], capture_output=True, text=True, check=True
        ).stderr
        for form in ("text", "json")
    }
    assert said["text"] == "old here\n"
    assert json.loads(said["json"])["message"] == "here"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pythonjsonlogger.json", None)
    with pytest.raises(PartMissing, match="python-json-logger"):
        set_up_logs("json")
