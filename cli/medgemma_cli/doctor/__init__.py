"""doctor: is everything there that this machine needs, and what is to be done where it is not?

Each part is looked at by itself: what is missing breaks no other check. Nothing that is shown holds
a credential or a path, and nothing is left behind in the store or in Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from medgemma_cli.jobs import Json

if TYPE_CHECKING:
    from medgemma_cli.doctor.finding import Finding, Part, Told
    from medgemma_tasks.settings import Settings


def doctor(as_json: Json = False) -> None:
    """Check settings, broker, store, GPU, torch, model, workers and versions; say how to mend each.

    For a client, a worker and whoever runs them. Exit status 0 unless a check failed.
    """
    from medgemma_cli.doctor import show
    from medgemma_cli.doctor.finding import Level

    if as_json:
        findings = list(examined())
        print(show.as_json(findings))
    else:
        findings = show.show(examined())
    if any(finding.level is Level.FAILED for finding in findings):
        raise typer.Exit(1)


def examined() -> Iterator[Finding]:
    """All findings, each as soon as it is known. Never raises."""
    from medgemma_cli.doctor.access import Access
    from medgemma_cli.doctor.broker import Broker
    from medgemma_cli.doctor.computing import Computing
    from medgemma_cli.doctor.devices import Devices
    from medgemma_cli.doctor.finding import examine, of_error
    from medgemma_cli.doctor.fleet import Fleet
    from medgemma_cli.doctor.storage import Storage
    from medgemma_cli.doctor.versions import Versions
    from medgemma_tasks.errors import InvalidSettings
    from medgemma_tasks.settings import load_settings

    settings: Settings | None = None
    try:
        settings = load_settings()
        told = _of_settings(settings)
    except InvalidSettings as error:
        told = of_error(error)
    devices = Devices(None if settings is None else settings.device)
    parts: list[Part] = [("settings", [("readable", lambda: told)])]
    if settings is not None:
        parts += [Broker(settings).part(), Storage(settings).part(), *Fleet(settings).parts()]
    parts += [devices.part(), Computing(lambda: devices.gpus).part()]
    if settings is not None:
        parts.append(Access(settings).part())
    parts.append(Versions().part())
    for part in parts:
        yield from examine(part)


def _of_settings(settings: Settings) -> Told:
    from medgemma_cli.doctor.finding import ok, warning
    from medgemma_tasks.transport import travels_plain

    found = f"Tenant {settings.tenant}, model {settings.model}, device {settings.device}."
    urls = (settings.broker_url.get_secret_value(), settings.s3_endpoint_url or "")
    if settings.allow_plain and any(url and travels_plain(url) for url in urls):
        return warning(
            f"{found} Patient data leaves this machine in the clear (MEDGEMMA_ALLOW_PLAIN).",
            "Use rediss:// and https://, unless nobody else reaches that network.",
        )
    return ok(found)
