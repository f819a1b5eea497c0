"""Going over the store's jobs: all, or some of them by the cheaper way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medgemma_tasks import layout, walking
from medgemma_tasks.entry import Entry
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from medgemma_tasks.walking import jobs_of, pages, these_jobs_of
from tests.parts import NOW


class _Listed(Store):
    """A store of keys, that counts what it is asked for."""

    def __init__(self, keys: list[str], *, ordered: bool = True) -> None:
        super().__init__(Settings(store_url="s3://bucket"))
        self.all = sorted(keys) if ordered else keys
        self.asked: list[str] = []

    def listing(self, prefix: str) -> Iterator[Entry]:
        self.asked.append(prefix)
        return (Entry(key, NOW, 1, 0.0) for key in self.all if key.startswith(prefix))


def job(number: int) -> str:
    return f"{number:032x}"


def keys_of(*numbers: int) -> list[str]:
    return [layout.request_key("local", job(number)) for number in numbers]


def test_jobs_come_with_all_that_lies_below_them() -> None:
    store = _Listed([*keys_of(1, 2), layout.result_key("local", job(2)), "local/inputs/x"])
    found = [(name, [entry.key for entry in entries]) for name, entries in jobs_of(store, "local")]
    assert [name for name, _ in found] == [job(1), job(2)]
    assert [len(keys) for _, keys in found] == [1, 2]


def test_many_jobs_of_a_small_store_are_found_in_one_listing() -> None:
    store = _Listed(keys_of(*range(500)))
    wanted = {job(number) for number in range(0, 500, 7)}
    assert {name for name, _ in these_jobs_of(store, "local", wanted)} == wanted
    assert store.asked == ["local/jobs/"]


def test_few_jobs_of_a_large_store_are_soon_asked_for_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walking, "LISTED", 10)
    store = _Listed(keys_of(*range(1000)))
    wanted = {job(1), job(500), job(900)}
    assert [name for name, _ in these_jobs_of(store, "local", wanted)] == sorted(wanted)
    assert store.asked == ["local/jobs/", *(f"local/jobs/{job(n)}/" for n in (500, 900))]


@given(
    keys=st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from(["request.json", "result.json"])), unique=True
    ),
    wanted=st.sets(st.integers(0, 40).map(job)),
    ordered=st.booleans(),
    page=st.integers(1, 5),
)
@hypothesis_settings(deadline=None)
def test_whatever_the_listing_each_job_is_met_with_all_its_objects(
    keys: list[tuple[int, str]], wanted: set[str], ordered: bool, page: int
) -> None:
    store = _Listed([f"local/jobs/{job(n)}/{name}" for n, name in keys], ordered=ordered)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walking, "LISTED", page)
        met: dict[str, set[str]] = {}
        times: list[str] = []
        for name, entries in these_jobs_of(store, "local", wanted):
            times.append(name)
            met[name] = {entry.key for entry in entries}
    assert met == {
        name: found
        for name in wanted
        if (found := {key for key in store.all if key.startswith(f"local/jobs/{name}/")})
    }
    if ordered:
        assert len(times) == len(met)


def test_pages_hold_so_many_each() -> None:
    assert list(pages(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(pages([], 2)) == []
