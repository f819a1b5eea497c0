"""A study as it will be asked about: its images, and how to put a question about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medgemma_client.images.source import SourceImage
from medgemma_client.study.files import StudyFile
from medgemma_client.study.series import Kind
from medgemma_client.study.volume import Volume
from medgemma_client.study.wording import parts_of, parts_of_pair

_NEW_TOKENS: Mapping[Kind, int] = {"patches": 2000}
_PAIR_TOKENS = 600


@dataclass(frozen=True, repr=False)
class Origin:
    """The file that an image came from. It stays with the caller: for DICOM output alone."""

    file: StudyFile
    frame: int | None
    """Of a file with several, from 0."""


@dataclass(frozen=True, repr=False)
class Study:
    """Of one study, or of a prior and a current one."""

    kind: Kind
    modality: str | None
    images: tuple[SourceImage, ...]
    """Ready for upload, in the order in which the model reads them."""
    notes: tuple[str, ...]
    """What was chosen and what was left out, as sentences; free of names, paths and UIDs."""
    volume: Volume | None = None
    """All slices of the series shown, not only those that are images here; of a pair the current
    one's."""
    shown: tuple[int, ...] = ()
    """Which of the series' images, in their order, each of ``images`` is, from 0; of a pair those
    of the current study alone."""
    origins: tuple[Origin, ...] = ()
    """Where each of ``images`` came from."""
    prior: Study | None = None
    """Of a pair: the earlier one, whose images stand before the current one's in ``images``."""

    def __repr__(self) -> str:
        return f"Study({self.kind}, {self.modality}, {len(self.images)} images)"

    def _repr_html_(self) -> str:
        """A card for notebooks: what is shown, and what was left out."""
        from medgemma_client.card import study_card

        return study_card(self)

    def prompt(self, question: str, instruction: str | None = None) -> list[str | int]:
        """Texts and images in the order that MedGemma expects: a ``medgemma_tasks.asking.Prompt``.

        ``instruction`` stands before all images, in place of our own for slices. Raises
        EmptyPrompt.
        """
        if self.prior is None:
            return parts_of(self.kind, self.modality, len(self.images), question, instruction)
        before = len(self.prior.images)
        return parts_of_pair(
            (self.prior.kind, self.kind),
            (before, len(self.images) - before),
            question,
            instruction,
        )

    @property
    def pad_to_square(self) -> bool:
        """What ``Client.submit`` is to be told: the processor ignores an image's aspect."""
        return any(image.pixels.width != image.pixels.height for image in self.images)

    @property
    def max_new_tokens(self) -> int | None:
        """As many as Google's examples generate; None leaves it to the service."""
        return _PAIR_TOKENS if self.prior is not None else _NEW_TOKENS.get(self.kind)
