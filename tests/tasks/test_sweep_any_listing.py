"""Whatever a listing shows, and whatever happens meanwhile: what a sweep never deletes."""

from __future__ import annotations

from collections.abc import Iterator

import fakeredis
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medgemma_tasks import layout
from medgemma_tasks.entry import Entry
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ExplanationRecord, State
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from medgemma_tasks.sweep import Sweeper
from tests.parts import JOB, NOW, OTHER_JOB, record_of

UNREADABLE = b'{"schema_version": 99}'


class _Memory(Store):
    """A store that lists in any order, says any age, and where marks come and go meanwhile."""

    def __init__(self, settings: Settings, entries: list[Entry], marks: dict[str, bytes]) -> None:
        super().__init__(settings)
        self.entries = entries
        self.marks = marks
        self.archived_at_look: dict[str, int] = {}
        self.looks: dict[str, int] = {}
        self.deleted: set[str] = set()

    def folders(self) -> list[str]:
        return ["local"]

    def listing(self, prefix: str) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry.key.startswith(prefix))

    def get(self, key: str, most: int) -> bytes | None:
        self.looks[key] = self.looks.get(key, 0) + 1
        if self.looks[key] == self.archived_at_look.get(key):
            self.marks.pop(key, None)
        return self.marks.get(key)

    def delete(self, *keys: str) -> None:
        for key in keys:
            # As long as it has its mark, no late worker can commit what is deleted here.
            assert layout.result_key("local", key.split("/")[2]) in self.marks
        self.deleted.update(keys)


jobs = st.sampled_from([JOB, OTHER_JOB, "0" * 32])
attempts = st.sampled_from(["1-ab", "2-cd", "3-0", "history", "x-1", "1-AB", ""])
files = st.sampled_from(["a.png", "relevancy.npz", "Ä", "..", "result.json", ""])
keys = st.one_of(
    st.builds("local/jobs/{}/{}/{}".format, jobs, attempts, files),
    st.builds("local/jobs/{}/{}".format, jobs, st.sampled_from(["request.json", "result.json"])),
    st.builds("local/jobs/{}/{}".format, st.text(max_size=5), st.text(max_size=5)),
    st.builds("local/{}/x".format, st.sampled_from(["inputs", "runs", "probe"])),
)
listings = st.lists(st.tuples(keys, st.floats(-10, 2000)), unique_by=lambda pair: pair[0])


@st.composite
def marks(draw: st.DrawFn, job: str, listed: list[str]) -> bytes | None:
    kind = draw(st.sampled_from(["none", "newer", "succeeded", "failed", "cancelled"]))
    if kind in ("none", "newer"):
        return UNREADABLE if kind == "newer" else None
    paths = [layout.artifact_path(key) for key in listed if f"/{job}/" in key]
    some = draw(st.sets(st.sampled_from(paths))) if kind == "succeeded" and paths else set()
    artifacts = {
        path: {"key": path, "sha256": "a" * 64, "size": 1, "content_type": "x/y"}
        for path in some
        if path is not None
    }
    data = record_of(job, State(kind)).model_dump() | {"artifacts": artifacts}
    return ExplanationRecord.model_validate(data).model_dump_json().encode()


@given(data=st.data(), listing=listings, age=st.sampled_from([0.0, 720.0]))
@hypothesis_settings(max_examples=300, deadline=None)
def test_nothing_that_a_mark_names_and_nothing_of_an_unfinished_job_is_ever_deleted(
    data: st.DataObject, listing: list[tuple[str, float]], age: float
) -> None:
    settings = Settings(store_url="s3://bucket")
    listed = [key for key, _ in listing]
    entries = [Entry(key, NOW, 1, seconds) for key, seconds in listing]
    store = _Memory(settings, entries, {})
    for job in (JOB, OTHER_JOB, "0" * 32):
        mark = data.draw(marks(job, listed))
        key = layout.result_key("local", job)
        if mark is not None:
            store.marks[key] = mark
        store.archived_at_look[key] = data.draw(st.integers(1, 4))
    before = dict(store.marks)
    live = LiveState(settings, connection=fakeredis.FakeRedis(decode_responses=True))
    found = Sweeper(store, live, age=age, probe_age=1e9).sweep()

    assert len(store.deleted) == found.artifacts
    for key in store.deleted:
        path, job = layout.artifact_path(key), key.split("/")[2]
        assert path is not None
        mark = before[layout.result_key("local", job)]
        assert mark != UNREADABLE
        named = ExplanationRecord.model_validate_json(mark).artifacts.values()
        assert path not in {artifact.key for artifact in named}
        assert age == 0 or dict(listing)[key] > age
