"""Versions: ours, Python's, and those of the libraries, against the ranges that we name."""

from __future__ import annotations

import platform
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from medgemma_cli.doctor.finding import Part, Told, failed, ok

OURS = "medgemma-explainer"
SHOWN = ("celery", "kombu", "redis", "boto3", "pydantic", "torch", "transformers")
NOT_ASKED = ("dev",)
"""Extras that nobody needs who runs the service."""


class Versions:
    """The checks of what is installed."""

    def part(self) -> Part:
        return "versions", [
            ("python", self.python),
            ("packages", self.packages),
            ("extras", self.extras),
        ]

    def python(self) -> Told:
        here = platform.python_version()
        supported = SpecifierSet(metadata(OURS)["Requires-Python"])
        found = f"{OURS} {version(OURS)} on Python {here}."
        if here not in supported:
            return failed(found, f"Run it on Python {supported}.")
        return ok(found)

    def packages(self) -> Told:
        """Whether all that is installed of what we name is in its range."""
        wrong = []
        for wanted in [one for group in _wanted().values() for one in group]:
            there = _installed(wanted.name)
            if there is not None and not wanted.specifier.contains(there, prereleases=True):
                wrong.append(f"{wanted.name} {there} (not {wanted.specifier})")
        missing = [one.name for one in _wanted()[""] if _installed(one.name) is None]
        if wrong or missing:
            what = [*wrong, *(f"{name} is missing" for name in missing)]
            return failed(
                f"{', '.join(dict.fromkeys(what))}.", f"Install {OURS} anew: pip install -U {OURS}."
            )
        shown = [f"{name} {there}" for name in SHOWN if (there := _installed(name)) is not None]
        return ok(f"{', '.join(shown)}.")

    def extras(self) -> Told:
        """Which extras are whole."""
        whole: list[str] = []
        not_whole: list[str] = []
        for extra, wanted in sorted(_wanted().items()):
            if extra and extra not in NOT_ASKED:
                complete = all(_installed(one.name) is not None for one in wanted)
                (whole if complete else not_whole).append(extra)
        found = f"Installed: {', '.join(whole) or 'none, as a client needs'}"
        return ok(f"{found}; not installed: {', '.join(not_whole) or 'none'}.")


def _wanted() -> dict[str, list[Requirement]]:
    """What we require on this machine, by extra; "" for what everybody needs."""
    found: dict[str, list[Requirement]] = defaultdict(list, {"": []})
    names = metadata(OURS).get_all("Provides-Extra") or []
    for line in requires(OURS) or []:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            found[""].append(wanted)
            continue
        for extra in names:
            if wanted.marker.evaluate({"extra": extra}):
                found[extra].append(wanted)
    return found


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
