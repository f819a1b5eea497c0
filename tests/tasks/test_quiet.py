"""Loggers are silent for the thread that asked for it, whatever others do meanwhile."""

from __future__ import annotations

import logging
from threading import Event, Thread

import pytest

from medgemma_tasks.quiet import without_logs


def test_a_thread_that_is_done_lets_no_line_of_another_through(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It ends its own silence just when the other's line is looked at."""
    logger, began, end = logging.getLogger("quiet.test"), Event(), Event()

    def other() -> None:
        with without_logs("quiet.test"):
            began.set()
            end.wait()

    thread = Thread(target=other)
    thread.start()
    began.wait()

    def ends(record: logging.LogRecord) -> bool:
        end.set()
        thread.join()
        return True

    logger.addFilter(ends)
    with without_logs("quiet.test"):
        logger.error("canary")
    end.set()
    logger.removeFilter(ends)
    assert "canary" not in caplog.text
    logger.error("heard again")
    assert "heard again" in caplog.text


def test_a_silence_within_a_silence_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("quiet.test")
    with without_logs("quiet.test"):
        with without_logs("quiet.test", "quiet.other"):
            logger.error("canary")
        logger.error("canary")
        logging.getLogger("quiet.other").error("not silent")
    assert "canary" not in caplog.text
    assert "not silent" in caplog.text
