"""A pytest plugin: every fault again and again, each in a scene of its own, and a table at the end.

    python -m pytest -p tests.faults.repeat --repeat 20 --summary out/faults.md tests/faults

The whole set is run, then the whole set again; with ``-n 2`` (pytest-xdist) in two processes, each
with servers of its own. Tests without a scene (those of the proxies) are run
once. A test that was skipped counts as failed: its fault was not made.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

_RUN = re.compile(r"-?\brun\d+\b-?")
_PROPERTY = "fault"
_FAULT = re.compile(r"Fault (\d+)|(FLUSHALL)")


@dataclass
class Row:
    """What is known of one test."""

    fault: str = ""
    asked: int = 0
    passed: int = 0
    not_passed: set[str] = field(default_factory=set)
    """Names of the runs that failed or were skipped, in whatever phase."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By run, with setting up and tearing down."""


class Repeat:
    """Repeats, and keeps count."""

    def __init__(self, times: int, summary: Path | None) -> None:
        self._times = times
        self._summary = summary
        self._rows: dict[str, Row] = {}
        self._started = datetime.now(UTC)
        self._skipped = False

    @pytest.fixture
    def repetition(self, request: pytest.FixtureRequest) -> int:
        number: int = request.param
        return number

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "scene" in metafunc.fixturenames:
            metafunc.fixturenames.append("repetition")
            ids = [f"run{number}" for number in range(1, self._times + 1)]
            metafunc.parametrize("repetition", range(self._times), indirect=True, ids=ids)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # Stable: within a repetition the order stays as it is.
        items.sort(key=_repetition)
        for item in items:
            if _repetition(item) >= 0:
                # It travels with the report, also from another process.
                item.user_properties.append((_PROPERTY, _fault(item)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._skipped = self._skipped or report.skipped
        fault = dict(report.user_properties).get(_PROPERTY)
        if fault is None:
            return
        row = self._rows.setdefault(_sentence(report.nodeid), Row(str(fault)))
        run = report.nodeid
        row.asked += report.when == "setup"
        row.seconds[run] = row.seconds.get(run, 0.0) + report.duration
        if not report.passed:
            row.not_passed.add(run)
        if report.when == "teardown":
            row.passed += run not in row.not_passed

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        text = self.table()
        terminalreporter.write_line("")
        terminalreporter.write_line(text)
        if self._summary is not None:
            self._summary.parent.mkdir(parents=True, exist_ok=True)
            self._summary.write_text(text + "\n", encoding="utf-8")

    def table(self) -> str:
        """The summary, in Markdown."""
        lasted = datetime.now(UTC) - self._started
        lines = [
            f"{self._started:%Y-%m-%d}, {lasted.total_seconds() / 60:.0f} minutes, {_versions()}.",
            "",
            "| fault | test | passed / runs | median s | longest s |",
            "|---|---|---|---|---|",
        ]
        for sentence, row in sorted(self._rows.items(), key=lambda item: _order(item[1].fault)):
            seconds = list(row.seconds.values()) or [0.0]
            lines.append(
                f"| {row.fault} | {sentence} | {row.passed} / {row.asked} | "
                f"{statistics.median(seconds):.1f} | {max(seconds):.1f} |"
            )
        passed = sum(row.passed for row in self._rows.values())
        asked = sum(row.asked for row in self._rows.values())
        return "\n".join([*lines, "", f"{passed} of {asked} runs passed."])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--repeat", type=int, default=1, help="how often each fault is made")
    parser.addoption("--summary", type=Path, help="file for the table, in Markdown")


def pytest_configure(config: pytest.Config) -> None:
    plugin = Repeat(config.getoption("--repeat"), config.getoption("--summary"))
    config.pluginmanager.register(plugin, "repeat-faults")


def _repetition(item: pytest.Item) -> int:
    """From 0; -1 for what is not repeated."""
    callspec = getattr(item, "callspec", None)
    return -1 if callspec is None else int(callspec.params.get("repetition", -1))


def _sentence(nodeid: str) -> str:
    """A test's name without the number of its run, as one reads it."""
    name = _RUN.sub("", nodeid.rpartition("::")[2]).replace("[]", "")
    return name.removeprefix("test_").replace("_", " ").replace("[", " [")


def _fault(item: pytest.Item) -> str:
    function = getattr(item, "function", None)
    found = _FAULT.search(getattr(function, "__doc__", None) or "")
    return "" if found is None else found[1] or found[2]


def _order(fault: str) -> tuple[int, str]:
    return (int(fault) if fault.isdigit() else 99, fault)


def _versions() -> str:
    from medgemma_cli.embedded.redis import redis_program

    program = redis_program()
    server = "none"
    if program is not None:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        found = re.search(r"v=(\S+)", told.stdout)
        server = found[1] if found else told.stdout.strip()
    parts = [
        f"Python {platform.python_version()}",
        f"redis-server {server}",
        *(f"{name} {version(name)}" for name in ("redis", "celery", "kombu")),
        f"{len(os.sched_getaffinity(0))} cores",
    ]
    return ", ".join(parts)
