"""Records as they come of real questions, with maps drawn for them: what the page is looked at on.

python -m tests.client.report.scenes FOLDER [NAME ...]    writes each as a page, and its pictures
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgemma_client.report import render_report
from medgemma_tasks.explanation import ExplanationResult
from medgemma_tasks.models import (
    Areas,
    Consistency,
    ErrorRecord,
    ExplanationRecord,
    ExplanationRequest,
    ImageAttributes,
    ImagePart,
    ImageRef,
    Message,
    Shares,
    Span,
    State,
    TextPart,
)
from medgemma_tasks.models.request import Plane
from medgemma_worker.phantom.images import make_phantom
from medgemma_worker.rendering import describe
from tests.client.report.samples import JOB, NOW, failed, make

Maps = NDArray[np.float32]

LONG = (
    "The cardiac silhouette is normal in size. There is a rounded opacity in the right upper lung "
    "zone, measuring about two centimetres, which was not seen before. The left lung is clear. No "
    "pleural effusion and no pneumothorax are visible. The bony thorax is intact, without a "
    "fracture of the ribs. Comparison with an earlier film, or a CT of the chest, would help."
)
RIGHT_TO_LEFT = "توجد عقدة في الفص العلوي الأيمن (RUL nodule). لا يوجد استرواح الصدر."


class Scene:
    """What ``render_report`` takes, made step by step."""

    def __init__(
        self,
        answer: str,
        images: Sequence[Image.Image],
        attributes: Sequence[ImageAttributes],
        prompt: str = "Describe the findings of this chest film.",
        patches: int = 0,
    ) -> None:
        self.answer, self.images, self.prompt, self.patches = answer, list(images), prompt, patches
        self.notes: tuple[str, ...] = ()
        self.refs = tuple(
            ImageRef(
                name="ab" * 32, width=image.width, height=image.height,
                mode="RGB" if image.mode == "RGB" else "L", attributes=one,
            )
            for image, one in zip(images, attributes, strict=True)
        )  # fmt: skip
        self.pieces = pieces(answer)
        self.asked = re.findall(r" ?[^ ]+", prompt)
        self.first = 300
        """Position of the first token of the answer."""
        self.results: list[ExplanationResult] = []

    def token(self, index: int, **extra: Any) -> None:
        """The piece of the answer with this number, explained on its own."""
        start, end = self.pieces[index]
        self._explain("token", self.answer[start:end], (start, end), (self.first + index,), **extra)

    def phrase(self, kind: str, text: str, **extra: Any) -> None:
        start = self.answer.find(text)
        place = (start, start + len(text)) if kind == "keyword" else None
        inside = [
            self.first + k
            for k, (a, b) in enumerate(self.pieces)
            if place and a < place[1] and place[0] < b
        ]
        self._explain(kind, text, place, tuple(inside) or (self.first + 1,), **extra)

    def _explain(
        self,
        kind: str,
        text: str,
        place: tuple[int, int] | None,
        positions: tuple[int, ...],
        areas: Areas | None = None,
    ) -> None:
        rng = np.random.default_rng(len(self.results))
        last = max(positions) - self.first
        labels = ["<bos>", "<start_of_turn>", *self.asked, "<end_of_turn>"]
        roles = ["special", "special", *["prompt"] * len(self.asked), "special"]
        said = [self.answer[a:b] for a, b in self.pieces[:last]]
        count = len(labels)
        spots = [(rng.uniform(3, 12), rng.uniform(3, 12)) for _ in self.images]
        if len(self.images) > 6:
            middle = len(self.images) * (0.3 + 0.4 * rng.random())
            weights = np.exp(-(((np.arange(len(self.images)) - middle) / 6) ** 2)) + 0.02
        else:
            weights = rng.uniform(0.4, 1, len(self.images))
        maps = np.stack([blob(16, spot, rng) * w for spot, w in zip(spots, weights, strict=True)])
        fine = None
        if self.patches:
            fine = np.stack([blob(self.patches, spot, rng) for spot in spots]) / 16
        self.results.append(
            ExplanationResult.from_scores(
                image_scores=maps,
                text_scores=np.concatenate([[0.9, 0.4], rng.random(count + last - 2) ** 3 * 0.05]),
                text_positions=[*range(count), *range(self.first, self.first + last)],
                text_roles=[*roles, *["answer"] * last],
                token_labels=[*labels, *said],
                generated_text=self.answer,
                own_relevancy=1.25,
                shares=Shares(images=0.52, prompt=0.21, answer=0.17, special=0.1),
                consistency=Consistency(checked=len(self.pieces), misses=0),
                spans=[
                    Span(
                        kind=kind,
                        text=text,
                        token_positions=positions,
                        tokens=(text,),
                        char_start=place[0] if place else None,
                        char_end=place[1] if place else None,
                    )  # type: ignore[arg-type]
                ],
                metadata={},
                areas=areas,
                patch_scores=fine,
            )
        )

    def parts(
        self, **changes: Any
    ) -> tuple[
        ExplanationRecord, ExplanationRequest, list[Image.Image], list[Maps], list[Maps | None]
    ]:
        described = describe(self.results, self.refs)
        model = make()[0].model
        record = ExplanationRecord(
            **{
                "job_id": JOB,
                "tenant": "local",
                "state": State.SUCCEEDED,
                "attempt": 1,
                "answer": self.answer,
                "targets": described.targets,
                "images": described.images,
                "tokens": described.tokens,
                "consistency": self.results[0].consistency,
                "model": model,
                "seconds": {"generating": 4.21, "explaining": 1.3},
                "peak_memory_bytes": 11 * 2**30,
                "submitted_at": NOW,
                "finished_at": NOW,
            }
            | changes
        )
        content = [ImagePart(image=0), TextPart(text=self.prompt)]
        request = make()[1].model_copy(
            update={
                "images": self.refs,
                "messages": (Message(role="user", content=tuple(content)),),
                "notes": self.notes,
            }
        )
        maps = [result.image_scores for result in self.results]
        return record, request, self.images, maps, [one.patch_scores for one in self.results]

    def page(self, **changes: Any) -> str:
        return render_report(*self.parts(**changes))


def pieces(text: str) -> list[tuple[int, int]]:
    """Tokens much as a tokenizer makes them: a space goes with what follows, long words are cut."""
    found = []
    for match in re.finditer(r"\s?[^\W_]+|\s?[^\w\s]|\s", text):
        start, end = match.span()
        while end - start > 8:
            found.append((start, start + 6))
            start += 6
        found.append((start, end))
    return found


def blob(cells: int, spot: tuple[float, float], rng: np.random.Generator) -> Maps:
    """A map with one hill on uneven ground, float32 (cells, cells)."""
    y, x = np.mgrid[:cells, :cells] * (16 / cells)
    hill = np.exp(-((y - spot[0]) ** 2 + (x - spot[1]) ** 2) / 5)
    return ((hill + 0.25 * rng.random((cells, cells)) ** 3) * 0.02).astype(np.float32)


def film(size: tuple[int, int], seed: int = 7) -> Image.Image:
    """A drawn chest film with a grain of its own, as real ones have."""
    drawn = make_phantom(seed, kind="nodule", zone="right upper zone").image
    large = np.asarray(drawn.convert("L").resize(size, Image.Resampling.BICUBIC), np.float32)
    grain = np.random.default_rng(seed).normal(0, 5, large.shape)
    return Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8))


KNOWN = ImageAttributes(left_of_image="patient-right", top_of_image="patient-head")


def words(size: tuple[int, int] = (2048, 2500), patches: int = 0) -> Scene:
    """One X-ray with an answer of 60 words, each token explained, the whole answer and a word of
    the prompt too."""
    scene = Scene(LONG, [film(size)], [KNOWN], patches=patches)
    for index in range(len(scene.pieces)):
        scene.token(index)
    scene.phrase(
        "answer", LONG, areas=Areas(deletion=0.214, insertion=0.871, log_p=-1, log_p_covered=-9)
    )
    scene.phrase("prompt", "findings")
    return scene


def two() -> Scene:
    """Two films of which one does not say its side."""
    scene = Scene(
        "The nodule has grown since the earlier film.",
        [film((900, 1100), 3), film((1000, 1000), 4)],
        [KNOWN, ImageAttributes()],
        prompt="Compare the two films.",
    )
    scene.phrase("keyword", "nodule")
    scene.phrase("keyword", "has grown")
    return scene


def volume(slices: int = 40) -> Scene:
    """A CT of drawn slices."""
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    shown, attributes = [], []
    for k in range(slices):
        wide = 0.55 + 0.35 * np.sin(np.pi * (k + 1) / (slices + 1))
        body = (x / wide) ** 2 + (y / (0.7 * wide)) ** 2 < 1
        lungs = ((abs(x) - 0.33) / 0.2) ** 2 + (y / 0.38) ** 2 < np.sin(np.pi * k / slices)
        grain = np.random.default_rng(k).normal(0, 4, x.shape)
        picture = np.clip(120 * body - 95 * (lungs & body) + grain * body, 0, 255).astype(np.uint8)
        shown.append(Image.fromarray(picture).resize((512, 512)))
        plane = Plane(origin_mm=(0, 0, 5.0 * k), row=(1, 0, 0), column=(0, 1, 0), step_mm=5)
        attributes.append(
            ImageAttributes(
                modality="CT", left_of_image="patient-right", top_of_image="patient-front",
                spacing_mm=(0.7, 0.7), plane=plane, frame=k, frames=slices,
            )
        )  # fmt: skip
    answer = "There is a small nodule in the right lower lobe."
    scene = Scene(answer, shown, attributes, prompt="Is there a nodule in this CT?")
    for word in ("small", "nodule", "right lower lobe"):
        scene.phrase("keyword", word)
    scene.notes = (
        f"Shown: series 2 of 2 (CT, {slices} slices, axial), chosen by itself; another can be "
        "asked for by its number.",
        "Left out: series 1: CT, 2 images, localizer (it only shows where slices lie).",
        "Shown through three windows, red, green and blue: -1024..1024, -135..215, 0..80 HU.",
    )
    return scene


def boxed() -> Scene:
    """A localization answer with two boxes."""
    answer = (
        '```json\n[{"box_2d": [180, 160, 380, 400], "label": "nodule"}, '
        '{"box_2d": [520, 560, 780, 800], "label": "cardiac silhouette"}]\n```'
    )
    scene = Scene(answer, [film((900, 1100))], [KNOWN], prompt="Where is the nodule?", patches=32)
    scene.phrase("keyword", "nodule")
    scene.phrase("keyword", "cardiac silhouette")
    return scene


def right_to_left() -> Scene:
    scene = Scene(RIGHT_TO_LEFT, [film((700, 700))], [KNOWN], prompt="صف الصورة.")
    for index in range(len(scene.pieces)):
        scene.token(index)
    return scene


def failure() -> str:
    _, request, _, _, _ = two().parts()
    error = ErrorRecord(
        code="keyword_not_in_answer",
        message="'mass' is not in the answer. The answer was: 'The lungs are clear.'",
        details={"answer": "The lungs are clear."},
    )
    return render_report(failed(error=error), request, [film((900, 1100), 3)], [])


SCENES = {
    "words": lambda: words().page(),
    "patches": lambda: words((1200, 1000), patches=64).page(),
    "two": lambda: two().page(),
    "volume": lambda: volume().page(),
    "boxes": lambda: boxed().page(),
    "rtl": lambda: right_to_left().page(),
    "plain": lambda: render_report(*make()),
    "failed": failure,
}


def main(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    from tests.browser import open_browser, watching

    with open_browser() as browser, watching(browser) as watch:
        for name in names or SCENES:
            path = folder / f"{name}.html"
            path.write_text(SCENES[name](), encoding="utf-8")
            for width in (1280, 390):
                for theme in ("light", "dark"):
                    watched = watch(width=width, color_scheme=theme)
                    watched.page.goto(path.absolute().as_uri())
                    shot = folder / f"{name}-{width}-{theme}.png"
                    watched.page.screenshot(path=shot, full_page=True)
                    print(shot, path.stat().st_size, watched.errors)
            watched = watch()
            watched.page.goto(path.absolute().as_uri())
            watched.page.pdf(path=folder / f"{name}.pdf", format="A4", print_background=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
