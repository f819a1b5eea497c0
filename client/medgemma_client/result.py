"""The result of a job: its record, and its artifacts, fetched when asked for and checked."""

from __future__ import annotations

import io
import os
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_client.writing import make_folder, write_file, writing
from medgemma_tasks.errors import ArtifactDamaged, InvalidRequest
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.models import ExplanationRecord, ExplanationRequest, ImageGrid, TargetRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from medgemma_client.output import Kind, OutputSource
    from medgemma_client.volume.places import Peak
    from medgemma_tasks.boxes import LocatedBoxes
    from medgemma_tasks.explanation import ExplanationResult

ARRAYS = "relevancy.npz"
SLICES = "slices.png"
RECORD = "result.json"
_PICTURE = re.compile(r"(fine-)?(heatmap|overlay)-\d+\.png|slices\.png")


class Result:
    """What a job that succeeded came to.

    Whatever comes from the store is checked against the SHA-256 that the record names; it raises
    ArtifactDamaged where it is missing or another.
    """

    def __init__(self, record: ExplanationRecord, ledger: Ledger) -> None:
        self.record = record
        self._ledger = ledger

    def __repr__(self) -> str:
        return f"Result({self.record.job_id!r})"  # no answer: it is patient data

    def _repr_html_(self) -> str:
        """A card for notebooks, which fetches what it shows; it quotes the answer."""
        from medgemma_client.card import result_card

        return result_card(self)

    @property
    def job_id(self) -> str:
        return self.record.job_id

    @property
    def answer(self) -> str:
        """What the model said, without its thinking."""
        return self.record.answer or ""

    @property
    def thinking(self) -> str | None:
        """What the model thought aloud before it answered, where it does that."""
        return self.record.thinking

    @property
    def notes(self) -> tuple[str, ...]:
        """Of a study: what of it the model was shown and what was left out, when it was first
        asked; of images none."""
        return self.request.notes

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32 (n, rows, columns): relevancy of each image's cells for the first target, as
        computed."""
        return self.explanation.image_scores

    @property
    def heatmaps(self) -> NDArray[np.float32]:
        """float32 (n, rows, columns): the same as 0..1, on one scale for all images."""
        maps = self.explanation.image_relevancy
        return maps[None] if maps.ndim == 2 else maps

    @property
    def heatmap(self) -> NDArray[np.float32]:
        """float32 (rows, columns): the heatmap of the first image, 0..1."""
        first: NDArray[np.float32] = self.heatmaps[0]
        return first

    @property
    def targets(self) -> tuple[TargetRecord, ...]:
        """What was explained, in the order asked for: each target's span, shares and scores."""
        return self.record.targets

    @property
    def explanation(self) -> ExplanationResult:
        """All numbers of the first target."""
        return self.explanations[0]

    @cached_property
    def explanations(self) -> tuple[ExplanationResult, ...]:
        """All numbers of each target, from relevancy.npz."""
        from medgemma_tasks.arrays import unpack

        results = unpack(self.artifact(ARRAYS))
        if len(results) != len(self.record.targets):
            raise ArtifactDamaged("The arrays of the result are not those of its targets.")
        return results

    @cached_property
    def request(self) -> ExplanationRequest:
        """The question that this answers."""
        request = self._ledger.request(self.job_id)
        if request is None:
            raise ArtifactDamaged(f"The request of job {self.job_id} is missing from the store.")
        return request

    def overlay(self, index: int = 0, target: int = 0, *, fine: bool = False) -> Image:
        """The map of a target over image ``index``, with its legend: RGB.

        That of the first target is as the worker drew it; others are drawn here, alike. fine: the
        map over patches, where ``resolution="patch"`` was asked for.
        """
        grid = self._grid(index)
        if fine and grid.fine is None:
            raise InvalidRequest(
                f"Job {self.job_id} has no finer map; ask for one by resolution='patch'."
            )
        self._target(target)
        if target == 0:
            return _picture(
                self.artifact(grid.fine.overlay if fine and grid.fine else grid.overlay)
            )
        side = grid.image.attributes.left_of_image
        image = self._backdrop(index)
        return self.explanations[target].overlay(image, index, left_of_image=side, fine=fine)

    @property
    def is_volume(self) -> bool:
        """Whether the images are slices that say where they lie in the patient."""
        from medgemma_client.volume.places import is_volume

        return is_volume(self.record.images)

    def peak(self, target: int = 0) -> Peak:
        """The cell with the most relevancy of all images, its place in the image and, where that
        is known, in the patient."""
        from medgemma_client.volume.places import peak_of

        self._target(target)
        return peak_of(self.explanations[target].image_scores, self.record.images)

    def slice_shares(self, target: int = 0) -> tuple[float, ...]:
        """Of each image, a slice of a volume, its share of a target's relevancy; with those of the
        words they come to 1."""
        return tuple(one.share for one in self._target(target).maps)

    def slices(self, target: int = 0, most: int = 6) -> Image:
        """The slices that matter most, in their order, each under its part of the map, all on one
        scale: RGB."""
        from medgemma_client.volume.places import most_relevant
        from medgemma_client.volume.slices import draw_slices

        found = most_relevant(self.slice_shares(target), most)
        pictures = [self._backdrop(index) for index in found]
        return draw_slices(self.record, self.explanations[target], target, found, pictures)

    def nifti(self, path: str | os.PathLike[str], target: int = 0) -> Path:
        """Write the maps of a volume's slices as ``.nii.gz``, float32, a voxel a cell, in the
        patient's millimetres. Raises GeometryMissing and its kin, and FileUnwritable."""
        from medgemma_client.volume.nifti import encode

        self._target(target)
        content = encode(self.explanations[target].image_scores, self.record.images)
        return write_file(Path(path), content)

    def boxes(self, image: int | None = None, target: int = 0) -> LocatedBoxes:
        """The boxes of a localization answer in pixels of an image, with the shares of a target's
        map that lie in them; empty where the answer has none.

        Of several images the answer does not say which one it means: then ``image`` must be given.
        """
        from medgemma_tasks.boxes import locate, read_boxes

        index = self._boxed(image)
        self._target(target)
        scores = self.explanations[target].image_scores[index]
        return locate(read_boxes(self.answer), scores, self.record.images[index].square)

    def boxes_overlay(self, image: int | None = None, target: int = 0) -> Image:
        """The boxes of the answer on an image, and beside it on the map of a target: RGB."""
        from medgemma_tasks.boxes_picture import draw_boxes

        index = self._boxed(image)
        shown, grid = self._target(target), self.record.images[index]
        return draw_boxes(
            self._backdrop(index),
            self.explanations[target].image_scores[index],
            self.boxes(index, target),
            square=grid.square,
            low=shown.low,
            high=shown.high,
            left_of_image=grid.image.attributes.left_of_image,
        )

    def image(self, index: int = 0) -> Image:
        """Image ``index`` as it was explained, 8 bits a channel."""
        self._grid(index)
        return _picture(self._ledger.input(self.request.images[index].name))

    def to_dicom(
        self,
        kind: Kind = "sc",
        source: OutputSource | None = None,
        image: int = 0,
        target: int = 0,
    ) -> Any:
        """The map of a target as a DICOM data set, for ``save_as``; see ``output.to_dicom``."""
        from medgemma_client.output import to_dicom

        self._grid(image)
        self._target(target)
        return to_dicom(self, kind, source, image, target)

    def artifact(self, name: str) -> bytes:
        """The bytes of an artifact of the record."""
        if name not in self.record.artifacts:
            raise InvalidRequest(f"Job {self.job_id} has no artifact of that name.")
        return self._ledger.artifact(self.job_id, self.record.artifacts[name])

    def artifact_urls(self, seconds: int, endpoint: str | None = None) -> dict[str, str]:
        """Of each artifact a URL that whoever has it can fetch it by, without credentials.

        seconds: how long. endpoint: the store's address for those who get them, if it is another.
        """
        artifacts = self.record.artifacts
        given = self._ledger.artifact_urls(self.job_id, artifacts.values(), seconds, endpoint)
        return dict(zip(artifacts, given, strict=True))

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the report, one self-contained HTML page. Raises FileUnwritable."""
        return write_file(Path(path), self.report_html().encode())

    def report_html(self) -> str:
        """The report itself."""
        from medgemma_client.report import render_report

        images = [self._backdrop(index) for index in range(len(self.record.images))]
        maps = [explanation.image_scores for explanation in self.explanations]
        fine = [explanation.patch_scores for explanation in self.explanations]
        return render_report(self.record, self.request, images, maps, fine)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write result.json, relevancy.npz, heatmap-k.png, overlay-k.png and report.html.

        Of a volume, also slices.png: the slices that matter most for the first target.

        Everything is fetched and checked first, and each file appears whole or not at all. Pictures
        that an earlier job left in the folder are removed. Raises FileUnwritable.
        """
        from medgemma_tasks.pictures import to_png

        files = {name: self.artifact(name) for name in self.record.artifacts}
        files["report.html"] = self.report_html().encode()
        if self.is_volume:
            files[SLICES] = to_png(self.slices())
        target = make_folder(folder)
        with writing():
            # First away and last written, as in the store: where it lies, the rest lies too.
            (target / RECORD).unlink(missing_ok=True)
            for path in target.iterdir():
                if _PICTURE.fullmatch(path.name) and path.name not in files:
                    path.unlink()
            files[RECORD] = self.record.model_dump_json(indent=2).encode()
            for name, content in files.items():
                write_file(target / name, content)
        return target

    def _backdrop(self, index: int) -> Image:
        from medgemma_tasks.backdrop import backdrop

        return backdrop(self.image(index), self._grid(index).image.attributes)

    def _target(self, index: int) -> TargetRecord:
        if not 0 <= index < len(self.record.targets):
            raise InvalidRequest(
                f"There is no target {index}; the job has {len(self.record.targets)}, from 0."
            )
        return self.record.targets[index]

    def _grid(self, index: int) -> ImageGrid:
        if not 0 <= index < len(self.record.images):
            raise InvalidRequest(
                f"There is no image {index}; the job has {len(self.record.images)}, from 0."
            )
        return self.record.images[index]

    def _boxed(self, image: int | None) -> int:
        """The image that the answer's boxes are on."""
        if image is None and len(self.record.images) > 1:
            raise InvalidRequest(
                f"The job has {len(self.record.images)} images, and its answer does not say on "
                "which of them a box lies; give image, from 0."
            )
        self._grid(image or 0)
        return image or 0


def _picture(content: bytes) -> Image:
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(content), formats=("PNG",))
        picture.load()
    except (OSError, SyntaxError, ValueError):
        raise ArtifactDamaged("A picture in the store cannot be decoded.") from None
    return picture
