"""Submitting questions, and finding the jobs that answer them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from medgemma_client.job import Job
from medgemma_client.once import earlier_job, nonce_of
from medgemma_client.pictures import Source, as_list, fitting_study, read, study_for
from medgemma_client.question import Wanted, make_deadline
from medgemma_client.request import Question, served_model
from medgemma_tasks.allowances import Allowances
from medgemma_tasks.asking import Prompt
from medgemma_tasks.errors import ArtifactDamaged, InvalidRequest, JobNotFound
from medgemma_tasks.layout import MODELS, check_job_id, check_tenant
from medgemma_tasks.ledger import Ledger, spell_request
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import (
    ExplanationRecord,
    ExplanationRequest,
    State,
    Target,
)
from medgemma_tasks.putting_back import Publisher, publish_job, put_back, requeue
from medgemma_tasks.queue import check_room
from medgemma_tasks.settings import Settings, load_settings
from medgemma_tasks.store import Store

if TYPE_CHECKING:
    from medgemma_client.announcements import Announcements
    from medgemma_client.backfill.naming import Source as Rows
    from medgemma_client.backfill.rows import Defaults
    from medgemma_client.backfill.run import Backfill
    from medgemma_client.images import SourceImage
    from medgemma_client.statuses import Statuses
    from medgemma_client.study import Study
    from medgemma_client.study.files import StudySource
    from medgemma_tasks.dead import DeadJob

__all__ = ["Client", "Source"]


class Client:
    """The way to a service of workers. Settings come from the environment unless given.

    Making one reaches for nothing; the first call does. Calls raise StoreUnreachable,
    StoreRefused and BrokerUnreachable, each with the address and within 5 s.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = load_settings() if settings is None else settings
        self._live = LiveState(self.settings)
        self._ledger = Ledger(Store(self.settings), self._live)
        self._publish = Publisher(self.settings)
        self._allowances = Allowances(self.settings)

    def of_tenant(self, tenant: str) -> Client:
        """The same connections, for another tenant's jobs. Raises InvalidRequest."""
        other = copy(self)
        other.settings = self.settings.model_copy(update={"tenant": check_tenant(tenant)})
        other._live = self._live.of_tenant(tenant)
        other._ledger = Ledger(self._ledger.store, other._live)
        return other

    def submit(
        self,
        images: Source | Sequence[Source] | None = None,
        prompt: Prompt = "",
        *,
        study: StudySource | Study | None = None,
        prior: StudySource | None = None,
        keyword: str | Sequence[str] | None = None,
        characters: tuple[int, int | None] | None = None,
        token: int | None = None,
        prompt_words: str | Sequence[str] | None = None,
        every_token: bool = False,
        targets: Target | Sequence[Target] | None = None,
        occurrence: int = 1,
        whole_word: bool = True,
        system: str | None = None,
        answer: str | None = None,
        method: str = "chefer",
        resolution: Literal["token", "patch"] = "token",
        areas: bool = False,
        max_new_tokens: int | None = None,
        pad_to_square: bool = True,
        left_of_image: str | None = None,
        top_of_image: str | None = None,
        model: str | None = None,
        expires: float | datetime | None = None,
        force: bool = False,
        idempotency_key: str | None = None,
    ) -> Job:
        """Ask a question about one or more images; the job that answers it.

        The prompt is a text, read after the images, or texts and images in order:
        ``["Before:", 0, "After:", 1, "What has changed?"]``.

        ``study``, in place of images: a folder, zip file or list of files, of which what the model
        is shown is chosen as it was trained, with ``prior`` as an earlier study before it; or what
        ``read_study`` gave, with choices of your own. The prompt is then the question, a text; the
        job's ``notes``, and its report, say what was chosen and what left out.

        Explained is whatever is named of the answer (a keyword or several, characters from one
        place to before another, a token by its position in the sequence, every token), or of the
        prompt (``prompt_words``); all of the answer where nothing is. Each is a target with a map
        of its own, and all share one generation and one forward pass. ``answer`` explains that
        answer, as if the model had said it, and generates none. ``areas`` measures how true each
        map is; ``resolution="patch"`` adds maps on the vision tower's finer grid.

        ``left_of_image`` ("patient-right", "patient-left", "unknown") and ``top_of_image``
        ("patient-head", "patient-feet", "patient-front", "patient-back", "unknown") say how all
        the images lie, where a file does not or is wrong; zones and marks are named by it.

        The same question is the same job: asked again, it is not run again, and its result is
        there at once. One that failed or was cancelled is put into its history and runs again.
        One still under way is left alone, and goes back onto the queue only where Redis no longer
        knows of it (it lost its memory, or 15 minutes passed without a worker telling of it).
        ``force`` makes it another job.

        ``idempotency_key``: a word of the caller's own for this call. What is sent again with it
        is the same job, also one that was forced, and also where it ended badly meanwhile.

        ``expires`` is the deadline, in seconds from now or as a moment with its time zone: a job
        that has not finished by then fails with JobExpired. Of several who ask the same the latest
        deadline counts.

        Nothing is written unless all of it can be used. Raises InputError and its kin for an
        image (details: ``image``, which one, from 0), RequestError and its kin for the question,
        ModelNotServed, QueueFull, and IdempotencyKeyReused where the key came with another
        question within a day.
        """
        from medgemma_client.images.reference import reference

        served = served_model(self._ledger, model or self.settings.model)
        notes: tuple[str, ...] = ()
        if study is not None or prior is not None:
            if not isinstance(prompt, str):
                raise InvalidRequest("Of a study the prompt is the question, one text.")
            found = study_for(images, study, prior, served, max_new_tokens)
            images, notes = found.images, found.notes
            prompt = found.prompt(prompt)
            if max_new_tokens is None and found.max_new_tokens is not None:
                max_new_tokens = min(found.max_new_tokens, served.max_new_tokens)
        sources = as_list(images)
        if not 1 <= len(sources) <= self.settings.max_images:
            raise InvalidRequest(
                f"A question takes 1 to {self.settings.max_images} images, not {len(sources)}."
            )
        wanted = Wanted(
            keyword=keyword,
            characters=characters,
            token=token,
            prompt_words=prompt_words,
            every_token=every_token,
            targets=targets,
            occurrence=occurrence,
            whole_word=whole_word,
        )
        question = Question.of(prompt, len(sources), wanted, system, answer)
        expires_at = make_deadline(expires)
        options = question.options(
            served,
            max_new_tokens,
            pad_to_square=pad_to_square,
            method=method,
            resolution=resolution,
            areas=areas,
        )
        pictures = read(sources, self.settings)
        lie = {"left_of_image": left_of_image, "top_of_image": top_of_image}
        refs = tuple(reference(picture, lie) for picture in pictures)
        tenant, nonce = self._ledger.tenant, secrets.token_hex(8) if force else None
        if force and idempotency_key is not None:
            nonce = nonce_of(tenant, idempotency_key)
        request = question.request(
            tenant, served, options, refs, nonce=nonce, notes=notes, expires_at=expires_at
        )
        spell_request(request)  # one that is too large is told before an image is uploaded
        if idempotency_key is not None:
            said = question.digest(tenant, served, options, refs, force=force)
            asked = idempotency_key, said, request.job_id
            earlier = earlier_job(self._allowances, self._ledger, *asked)
            if earlier is not None:
                return Job(earlier, self._ledger, self._live, notes)
        self._put(request, pictures)
        return Job(request.job_id, self._ledger, self._live, notes)

    def read_study(
        self,
        /,
        source: StudySource,
        *,
        model: str | None = None,
        max_new_tokens: int | None = None,
        **choices: Any,
    ) -> Study:
        """A study as ``submit`` takes it: ``medgemma_client.study.read_study`` with its choices,
        and no more images than the model has room for. Raises what that does, and
        ModelNotServed."""
        served = served_model(self._ledger, model or self.settings.model)
        return fitting_study(source, served, max_new_tokens, choices)

    def backfill(
        self, /, source: Rows, defaults: Defaults | None = None, **choices: Any
    ) -> Backfill:
        """Ask many questions, on the batch queue; iterated, it gives each row's item as it ends.

        source: a manifest (CSV, JSON lines or Parquet by its suffix), or its records. defaults:
        what holds for each row that does not say otherwise. choices: the fields of
        ``backfill.Choices``: run, out, limit, retry_failed, in_flight, shard, expire_after ...

        A run goes on where it stopped, however it was ended, and does nothing twice. At its end,
        and where it is broken off, it writes results.csv, failures.csv and summary.json into
        runs/<run>/. docs/backfill.md tells all of it.
        """
        from medgemma_client.backfill.choices import Choices
        from medgemma_client.backfill.run import Backfill

        return Backfill(self._ledger, self._live, source, defaults, Choices(**choices))

    def job(self, job_id: str) -> Job:
        """A job by its id, from any process. JobNotFound where nobody submitted it."""
        if not self._ledger.has_request(check_job_id(job_id)):
            raise JobNotFound(
                f"There is no job {job_id} for tenant {self._ledger.tenant} in the store at "
                f"{self.settings.store_address}.",
                job_id=job_id,
            )
        return self._job(job_id)

    def dead(self, *, all_codes: bool = False) -> Iterator[DeadJob]:
        """The tenant's jobs of which every attempt ended with its process, and what was known of
        each death; ``all_codes``: whatever failed. Reads the mark of every job that ended."""
        from medgemma_tasks.dead import dead_jobs

        return dead_jobs(self._ledger, all_codes=all_codes)

    def requeue(self, job_id: str) -> Job:
        """Run a job again that failed or was cancelled; what it came to is put into its history.

        No image is needed: the request is kept. Raises JobNotFound, JobNotFailed.
        """
        requeue(self._publish, self._ledger, check_job_id(job_id))
        return self._job(job_id)

    def statuses(self) -> Statuses:
        """Where jobs of any tenant stand, for many who ask."""
        from medgemma_client.statuses import Statuses

        return Statuses(self._ledger.store, self._live)

    def announcements(
        self, ended: Callable[[str, str], None], hearing: Callable[[bool], None]
    ) -> Announcements:
        """Who tells of each job, of any tenant, that ends."""
        from medgemma_client.announcements import Announcements

        return Announcements(self._live, ended, hearing)

    @property
    def allowances(self) -> Allowances:
        """How much callers may ask, of any tenant."""
        return self._allowances

    def ping_redis(self) -> None:
        """Raises BrokerUnreachable unless Redis answers."""
        self._live.ping()

    def ping_store(self) -> None:
        """Raises StoreUnreachable or StoreRefused unless the store answers."""
        self._ledger.store.exists(MODELS)

    def models(self) -> list[str]:
        """The names of all models that workers ever published to the store."""
        return self._ledger.served_models()

    def close(self) -> None:
        """Give back the connections. A call made after that, of the client or of what it gave
        (a result fetches its pictures when asked), opens new ones."""
        self._publish.close()
        self._allowances.close()
        self._live.close()
        self._ledger.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _put(self, request: ExplanationRequest, pictures: Sequence[SourceImage]) -> None:
        """Inputs, then the request, then its message; as much of it as is not there yet."""
        job_id = request.job_id
        mark = self._ledger.record(job_id)
        if mark is not None and mark.state is State.SUCCEEDED:
            return
        self._live.ping()  # before anything is written that nobody could be told of
        known = mark is None and self._ledger.has_request(job_id)
        if known:
            self._ledger.move_deadline(job_id, request.expires_at)
            if self._live.under_way(job_id):
                return
        check_room(self._live, request.model, batch=request.batch)
        if not known:
            anew = request.nonce is not None or _found_damage(mark)
            for ref, picture in zip(request.images, pictures, strict=True):
                self._ledger.put_input(ref, picture.png(), anew=anew)
            self._ledger.put_request(request)
        if mark is None:
            publish_job(self._publish, self._live, request)
        else:
            put_back(self._publish, self._ledger, request, mark)

    def _job(self, job_id: str) -> Job:
        return Job(job_id, self._ledger, self._live)


def _found_damage(mark: ExplanationRecord | None) -> bool:
    """Whether a job failed because something in the store, maybe an input, was lost or others."""
    return mark is not None and mark.error is not None and mark.error.code == ArtifactDamaged.code
