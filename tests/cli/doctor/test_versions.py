"""What doctor says of what is installed."""

from __future__ import annotations

import pytest

from medgemma_cli.doctor import versions
from medgemma_cli.doctor.finding import Level
from medgemma_cli.doctor.versions import Versions
from tests.cli.doctor.told import findings, levels


def test_what_the_tests_run_on_is_supported() -> None:
    assert set(levels(Versions().part()).values()) == {Level.OK}


def install(monkeypatch: pytest.MonkeyPatch, **others: str | None) -> None:
    """As if these were installed instead."""
    real = versions._installed
    monkeypatch.setattr(versions, "_installed", lambda name: others.get(name, real(name)))


def test_one_that_is_out_of_its_range_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, celery="5.4.0", boto3=None)
    found = findings(Versions().part())["packages"]
    assert found.level is Level.FAILED
    assert "celery 5.4.0 (not <6,>=5.7)" in found.found
    assert "boto3 is missing" in found.found


def test_a_client_has_no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {one.name for group in versions._wanted().values() for one in group}
    needed = {one.name for one in versions._wanted()[""]}
    install(monkeypatch, **dict.fromkeys(wanted - needed))
    found = findings(Versions().part())
    assert found["packages"].level is found["extras"].level is Level.OK
    assert found["extras"].found.startswith("Installed: none, as a client needs; not installed: ")
