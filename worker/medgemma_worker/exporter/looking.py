"""What an exporter sees of a fleet: in Redis, and of models and ages in the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from medgemma_tasks import dropped, workers
from medgemma_tasks.census import Jobs, census
from medgemma_tasks.errors import MedGemmaError
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import ModelName, WorkerHealth
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store

log = logging.getLogger(__name__)

MODELS_LIFETIME = 60.0
"""Seconds for which the list of models in the store is not asked for again."""

_NAME = TypeAdapter[str](ModelName)


@dataclass(frozen=True)
class Seen:
    """A fleet at one moment."""

    jobs: Mapping[str, Jobs]
    """By model: each that is known, also where it has none."""
    oldest: Mapping[tuple[str, str], datetime]
    """When the job that is next was submitted, by model and kind of queue, where that is known."""
    team: Sequence[WorkerHealth]
    dropped: Mapping[str, int]
    """By place, of late."""
    store: bool
    """Whether the store answered."""


class Looker:
    """Looks at a fleet. named: models that are known whether or not anything tells of them."""

    def __init__(self, settings: Settings, named: Iterable[str] = ()) -> None:
        self._live = LiveState(settings)
        self._store = Store(settings)
        self._named = frozenset(named)
        self._served: frozenset[str] = frozenset()
        self._listed = -MODELS_LIFETIME
        self._submitted: dict[tuple[str, str], datetime] = {}
        self._well = True

    def look(self) -> Seen:
        """Raises BrokerUnreachable. Of a store that is away only what it alone knows is missing."""
        with self._live.connected() as redis:
            jobs = {model: one for model, one in census(redis).items() if _is_name(model)}
            team = workers.workers(redis)
            lost = dropped.counted(redis)
        try:
            served, submitted = self._models(), self._ages(jobs)
        except MedGemmaError as error:
            self._note(error)
            well, served, submitted = False, self._served, {}
        else:
            well = self._well = True
        for model in (*self._named, *served, *(worker.model for worker in team)):
            jobs.setdefault(model, Jobs())
        return Seen(dict(sorted(jobs.items())), submitted, team, lost, well)

    def _models(self) -> frozenset[str]:
        if time.monotonic() >= self._listed + MODELS_LIFETIME:
            found = Ledger(self._store, self._live).served_models()
            self._served, self._listed = frozenset(filter(_is_name, found)), time.monotonic()
        return self._served

    def _ages(self, jobs: Mapping[str, Jobs]) -> dict[tuple[str, str], datetime]:
        first = {
            (model, kind): job for model, one in jobs.items() for kind, job in one.first.items()
        }
        known = {job: self._submitted_at(job) for job in first.values()}
        self._submitted = {job: moment for job, moment in known.items() if moment is not None}
        return {
            queue: self._submitted[job] for queue, job in first.items() if job in self._submitted
        }

    def _submitted_at(self, job: tuple[str, str]) -> datetime | None:
        """Asked of the store once for each job that comes to stand first."""
        if job in self._submitted:
            return self._submitted[job]
        tenant, job_id = job
        request = Ledger(self._store, self._live.of_tenant(tenant)).request(job_id)
        return None if request is None else request.submitted_at

    def _note(self, error: MedGemmaError) -> None:
        """Once for each time that it goes away: the scrapes that follow would say the same."""
        if self._well:
            log.warning("ages and served models are not known (%s)", error.code)
        self._well = False


def age(moment: datetime) -> float:
    """Seconds since then; the clocks of two machines may differ."""
    return max((datetime.now(UTC) - moment).total_seconds(), 0.0)


def _is_name(model: str) -> bool:
    """Whoever can write to Redis can make a queue of any name, and it would become a label."""
    try:
        _NAME.validate_python(model)
    except ValidationError:
        return False
    return True
