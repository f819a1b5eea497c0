"""Walking over the store: its tenants, and a tenant's jobs, each with the objects below it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import groupby, islice
from typing import TypeVar

from medgemma_tasks import layout
from medgemma_tasks.entry import Entry
from medgemma_tasks.errors import InvalidRequest, StoreRefused
from medgemma_tasks.store import Store

LISTED = 1000
"""Objects in a page of a listing."""

T = TypeVar("T")


def tenants_of(store: Store) -> list[str]:
    """Those that have something in the store; our own, where we may not list its top."""
    try:
        folders = store.folders()
    except StoreRefused:
        return [store.settings.tenant]
    return [name for name in folders if name != layout.MODELS.rstrip("/") and _is_tenant(name)]


def jobs_of(store: Store, tenant: str) -> Iterator[tuple[str, Iterable[Entry]]]:
    """Id and objects of each job of a tenant; one page is held at a time.

    On a server that lists in no order (AWS keeps one) a job may come more than once, each time with
    a part of its objects. So whoever acts on what is absent must ask for it by its key. An id may
    be none: whoever can write to the store can put anything there.
    """
    return _by_job(store, tenant, layout.jobs_prefix(tenant))


def these_jobs_of(
    store: Store, tenant: str, jobs: Collection[str]
) -> Iterator[tuple[str, Iterable[Entry]]]:
    """The same for these jobs alone: from one listing of all as long as that takes fewer calls than
    asking for those that are left one by one. So it takes twice the calls of the cheaper way at
    most, whatever else the store holds.

    On a server that lists in no order each is asked for by itself, and some come twice.
    """
    left, listed, last = set(jobs), 0, ""
    for job_id, entries in _by_job(store, tenant, layout.jobs_prefix(tenant)):
        if job_id < last:
            left = set(jobs)
            break
        last, objects = job_id, list(entries)
        listed += len(objects)
        if job_id in left:
            left.discard(job_id)
            yield job_id, objects
        if listed >= LISTED * len(left):
            break
    for job_id in sorted(left):
        yield from _by_job(store, tenant, layout.job_prefix(tenant, job_id))


def _by_job(store: Store, tenant: str, prefix: str) -> Iterator[tuple[str, Iterable[Entry]]]:
    start = layout.jobs_prefix(tenant)
    return groupby(
        store.listing(prefix), lambda entry: entry.key.removeprefix(start).partition("/")[0]
    )


def pages(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """So many at a time."""
    rest = iter(items)
    while page := list(islice(rest, size)):
        yield page


def _is_tenant(name: str) -> bool:
    try:
        layout.check_tenant(name)
    except InvalidRequest:
        return False
    return True
