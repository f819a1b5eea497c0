"""Whoever knows the one client knows the other: names, parameters, defaults."""

from __future__ import annotations

import dis
import inspect
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path

import pytest

from medgemma_client.aio import (
    AsyncBackfill,
    AsyncClient,
    AsyncItem,
    AsyncJob,
    AsyncResult,
)
from medgemma_client.backfill.item import Item
from medgemma_client.backfill.run import Backfill
from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_client.result import Result

PAIRS = [
    (Client, AsyncClient),
    (Job, AsyncJob),
    (Result, AsyncResult),
    (Backfill, AsyncBackfill),
    (Item, AsyncItem),
]
DIFFERENCES = Path("docs/python.md").read_text().split("## Asynchronously")[1].split("\n## ")[0]

RENAMED = {"close": "aclose"}
"""As in httpx: to close is another word where it is awaited."""

NOT_THERE = {"statuses", "announcements", "allowances"}
"""Parts for the gateway, which has threads of its own."""

CARD = "_repr_html_"
"""What a notebook shows, by its name."""

AT_ONCE = {"slice_shares", "stop", "backfill", "of_tenant", CARD}
"""Methods that reach for nothing. A backfill is made where it is awaited or iterated; what is
displayed cannot be awaited."""

ITERATED = {"dead"}

FETCHED = {"scores", "heatmaps", "heatmap", "explanation", "explanations", "request", "notes"}
"""Properties that reach for the store."""


def methods(kind: type) -> dict[str, object]:
    """The methods that are for whoever uses a class."""
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: method for name, method in found if not name.startswith("_") or name == CARD}


def parameters(method: object) -> list[inspect.Parameter]:
    """All but the first, self."""
    return list(inspect.signature(method).parameters.values())[1:]  # type: ignore[arg-type]


def attributes(kind: type) -> set[str]:
    """What is read without a call: properties, and what is set when one is made."""
    properties = {
        name
        for name, value in inspect.getmembers(kind)
        if isinstance(value, property | cached_property) and not name.startswith("_")
    }
    if is_dataclass(kind):
        return properties | {field.name for field in fields(kind)}
    made = dis.get_instructions(kind.__init__)  # type: ignore[misc]
    stored = {str(step.argval) for step in made if step.opname == "STORE_ATTR"}
    return properties | {name for name in stored if not name.startswith("_")}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_every_name_is_there(one: type, other: type) -> None:
    wanted = {RENAMED.get(name, name) for name in methods(one)} | attributes(one)
    assert wanted - NOT_THERE == (set(methods(other)) | attributes(other)) - {"threads"}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_methods_take_the_same_and_what_reaches_for_something_is_awaited(
    one: type, other: type
) -> None:
    for name in methods(one).keys() - NOT_THERE:
        method = methods(one)[name]
        twin = methods(other)[RENAMED.get(name, name)]
        assert parameters(method) == parameters(twin)
        assert inspect.iscoroutinefunction(twin) != (name in AT_ONCE | ITERATED), name
        assert inspect.isasyncgenfunction(twin) == (name in ITERATED), name
        assert twin.__doc__, name


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_a_property_would_fetch_is_a_method_to_await(one: type, other: type) -> None:
    for name in attributes(one) & set(methods(other)):
        assert name in FETCHED
        assert inspect.iscoroutinefunction(methods(other)[name])


def test_the_classes_themselves_are_made_and_closed_alike() -> None:
    assert inspect.signature(Client).parameters == inspect.signature(AsyncClient).parameters
    assert hasattr(Client, "__enter__")
    assert hasattr(AsyncClient, "__aenter__")
    assert hasattr(Backfill, "__iter__")
    assert hasattr(AsyncBackfill, "__aiter__")


@pytest.mark.parametrize("name", sorted(NOT_THERE | set(RENAMED) | ITERATED | FETCHED | AT_ONCE))
def test_each_difference_is_told_of_with_its_reason(name: str) -> None:
    assert name == CARD or f"`{name}`" in DIFFERENCES
