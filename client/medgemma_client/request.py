"""From what a caller says to a request: the one way, for one question and for many."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from medgemma_client.question import Wanted, check_given, make_options, make_targets
from medgemma_tasks.asking import Prompt, make_messages
from medgemma_tasks.errors import ModelNotServed
from medgemma_tasks.identity import job_id
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.making import make
from medgemma_tasks.models import (
    ExplanationRequest,
    ImageRef,
    Message,
    Options,
    ServedModel,
    Target,
)


@dataclass(frozen=True, repr=False)
class Question:
    """What is asked about some images, checked, but for the images and the model."""

    messages: tuple[Message, ...]
    targets: tuple[Target, ...]
    answer: str | None
    images: int
    """How many it is about."""

    @classmethod
    def of(
        cls, prompt: Prompt, images: int, wanted: Wanted, system: str | None, answer: str | None
    ) -> Question:
        """Raises RequestError and its kin."""
        messages = make_messages(prompt, system, images)
        check_given(answer)
        return cls(messages, make_targets(wanted), answer, images)

    def options(
        self, served: ServedModel, max_new_tokens: int | None = None, **options: object
    ) -> Options:
        """Within what the workers of the model take. Raises InvalidRequest, SequenceTooLong."""
        return make_options(self.images, served, max_new_tokens, **options)

    def digest(
        self,
        tenant: str,
        served: ServedModel,
        options: Options,
        refs: tuple[ImageRef, ...],
        *,
        force: bool,
    ) -> str:
        """A hash of all that is asked, which workers of another revision leave as it is."""
        any_revision = {"revision": "", "method": "", "method_version": ""}
        return job_id(
            tenant=tenant,
            images=refs,
            messages=self.messages,
            targets=self.targets,
            options=options,
            model=served.model_copy(update=any_revision),
            given_answer=self.answer,
            nonce=str(force),
        )

    def request(
        self,
        tenant: str,
        served: ServedModel,
        options: Options,
        refs: tuple[ImageRef, ...],
        *,
        nonce: str | None = None,
        notes: tuple[str, ...] = (),
        batch: bool = False,
        expires_at: datetime | None = None,
    ) -> ExplanationRequest:
        """The request; its job's id follows from all of it but the last three. Raises
        InvalidRequest."""
        identity = job_id(
            tenant=tenant,
            images=refs,
            messages=self.messages,
            targets=self.targets,
            options=options,
            model=served,
            given_answer=self.answer,
            nonce=nonce,
        )
        return make(
            ExplanationRequest,
            "request",
            job_id=identity,
            tenant=tenant,
            model=served.name,
            revision=served.revision,
            method_version=served.method_version,
            images=refs,
            messages=self.messages,
            targets=self.targets,
            given_answer=self.answer,
            options=options,
            nonce=nonce,
            notes=notes,
            batch=batch,
            submitted_at=datetime.now(UTC),
            expires_at=expires_at,
        )


def served_model(ledger: Ledger, name: str) -> ServedModel:
    """What the workers of a model hold. Raises ModelNotServed, which names those that there are."""
    served = ledger.served_model(name)
    if served is not None:
        return served
    known = ledger.served_models()
    which = f"Served are: {', '.join(known)}." if known else "None is: start a worker."
    raise ModelNotServed(f"No worker serves {name}. {which}", model=name, served=known)
