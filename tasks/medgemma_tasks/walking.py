"""Walking over the store: its tenants, and a tenant's jobs, each with the objects below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from medgemma_tasks import layout
from medgemma_tasks.entry import Entry
from medgemma_tasks.errors import InvalidRequest, StoreRefused
from medgemma_tasks.store import Store


def tenants_of(store: Store) -> list[str]:
    """Those that have something in the store; our own, where we may not list its top."""
    try:
        folders = store.folders()
    except StoreRefused:
        return [store.settings.tenant]
    return [name for name in folders if name != layout.MODELS.rstrip("/") and _is_tenant(name)]


def jobs_of(
    store: Store, tenant: str, jobs: Sequence[str] | None = None
) -> Iterator[tuple[str, Iterable[Entry]]]:
    """Id and objects of each job of a tenant, or of these alone; one page is held at a time.

    On a server that lists in no order (AWS keeps one) a job may come more than once, each time with
    a part of its objects. So whoever acts on what is absent must ask for it by its key. An id may
    be none: whoever can write to the store can put anything there.
    """
    start = layout.jobs_prefix(tenant)
    prefixes = [start] if jobs is None else [layout.job_prefix(tenant, job) for job in jobs]
    for prefix in prefixes:
        yield from groupby(
            store.listing(prefix), lambda entry: entry.key.removeprefix(start).partition("/")[0]
        )


def _is_tenant(name: str) -> bool:
    try:
        layout.check_tenant(name)
    except InvalidRequest:
        return False
    return True
