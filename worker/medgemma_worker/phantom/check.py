"""Measure the shipped phantom: `python -m medgemma_worker.phantom.check [FOLDER]`.

Exact answers on held-out films, and whether covering parts of a film measures what it should:
covering what lies outside the lesion must leave the answer, and the lesion alone must bring
it back. Exits with status 1 where a figure is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, Gemma3ForConditionalGeneration, Gemma3Processor

from medgemma_worker.phantom import checkpoint_path
from medgemma_worker.phantom.images import GRID, Phantom, cover_cells, lesion_cells, make_phantom
from medgemma_worker.phantom.prompts import QUESTIONS, messages_for

FIRST_SEED: Final = 500_000  # of the held-out films; training begins at 1,000,000,000
FILMS: Final = 500
COVERED_FILMS: Final = 100
DELETED_CELLS: Final = 64
NAME_AT: Final = 3  # tokens of "There is a", before the finding's name
LEAST_EXACT, LEAST_KEPT, LEAST_RESTORED = 0.98, 0.9, 0.8


@dataclass(frozen=True)
class Figures:
    """Shares and probabilities on held-out films; see `rows` for what each must reach.

    Judged is the probability of the finding's name after "There is a", the target that maps
    are made of, on the whole film, with cells outside the lesion covered (kept), and with all
    but the lesion covered (restored). That of the whole answer is a product over a dozen
    tokens; it is told beside it.
    """

    films: int
    exact: float
    covered_films: int
    word: float
    word_kept: float
    word_restored: float
    word_blurred: float
    answer: float
    answer_kept: float
    answer_restored: float
    answer_blurred: float

    def rows(self) -> list[tuple[str, float, float | None]]:
        """What was measured, the figure, and the least it must be (None: told, not judged)."""
        outside = f"{DELETED_CELLS} cells outside the lesion blurred"
        films = f"{self.covered_films} films with a lesion"
        return [
            (f"exact answers on {self.films} films", self.exact, LEAST_EXACT),
            (f"p(finding), mean over {films}", self.word, None),
            (f"p(finding), {outside}", self.word_kept, LEAST_KEPT),
            ("p(finding), all but the lesion blurred", self.word_restored, LEAST_RESTORED),
            ("p(finding), all blurred", self.word_blurred, None),
            ("p(answer)", self.answer, None),
            (f"p(answer), {outside}", self.answer_kept, None),
            ("p(answer), all but the lesion blurred", self.answer_restored, None),
            ("p(answer), all blurred", self.answer_blurred, None),
        ]

    def passed(self) -> bool:
        """Does every judged figure reach its least value?"""
        return all(least is None or figure >= least for _, figure, least in self.rows())


class Reader:
    """The model and processor of a checkpoint folder, in float32."""

    def __init__(self, folder: Path) -> None:
        self.processor: Gemma3Processor = AutoProcessor.from_pretrained(folder)
        self.model = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.model.eval()

    def answer(self, image: Image.Image, question: str) -> str:
        """The greedy answer."""
        inputs = self.processor.apply_chat_template(
            messages_for(image, question),
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
        )
        output = self.model.generate(**inputs, max_new_tokens=20, do_sample=False)
        new = output[0, inputs["input_ids"].shape[1] :]
        return str(self.processor.decode(new, skip_special_tokens=True))

    @torch.no_grad()
    def log_probabilities(self, image: Image.Image, question: str, answer: str) -> torch.Tensor:
        """float32 (tokens,): log p of each token of an answer and of its end marker."""
        turn = {"role": "model", "content": [{"type": "text", "text": answer}]}
        inputs = self.processor.apply_chat_template(
            [*messages_for(image, question), turn],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        ids = inputs["input_ids"][0]
        opening = self.processor.tokenizer.convert_tokens_to_ids("<start_of_turn>")
        start = int((ids == opening).nonzero()[-1]) + 3  # after "model" and the newline
        logits = self.model(**inputs).logits[0, start - 1 : -2]  # not the last newline
        scores: torch.Tensor = logits.log_softmax(-1).gather(-1, ids[start:-1, None])[:, 0]
        return scores

    def probabilities(
        self, image: Image.Image, question: str, film: Phantom
    ) -> tuple[float, float]:
        """p of the finding's name, given "There is a", and p of the whole answer."""
        scores = self.log_probabilities(image, question, film.answer)
        name = self.processor.tokenizer(f" {film.kind}", add_special_tokens=False)["input_ids"]
        word = scores[NAME_AT : NAME_AT + len(name)]
        return float(word.sum().exp()), float(scores.sum().exp())


def held_out(count: int) -> Iterator[tuple[Phantom, str]]:
    """Films that training never sees, each with a question."""
    for index in range(count):
        yield make_phantom(FIRST_SEED + index), QUESTIONS[index % len(QUESTIONS)]


def measure(folder: Path, films: int = FILMS, covered_films: int = COVERED_FILMS) -> Figures:
    """Measure a checkpoint folder; the covered films are the first ones with a lesion."""
    reader = Reader(folder)
    cases = list(held_out(films))
    exact = [reader.answer(film.image, question) == film.answer for film, question in cases]
    rows = [
        _cover_and_score(reader, film, question, seed)
        for seed, (film, question) in enumerate(
            [case for case in cases if case[0].kind is not None][:covered_films]
        )
    ]
    (word, answer), (kept, answer_kept), (restored, answer_restored), (blurred, answer_blurred) = (
        np.array(rows).mean(axis=0)
    )
    return Figures(
        films=films,
        exact=float(np.mean(exact)),
        covered_films=len(rows),
        word=float(word),
        word_kept=float(kept),
        word_restored=float(restored),
        word_blurred=float(blurred),
        answer=float(answer),
        answer_kept=float(answer_kept),
        answer_restored=float(answer_restored),
        answer_blurred=float(answer_blurred),
    )


def _cover_and_score(
    reader: Reader, film: Phantom, question: str, seed: int
) -> list[tuple[float, float]]:
    """p of word and answer: whole, outside covered, all but the lesion covered, all covered."""
    lesion = lesion_cells(film.mask)
    outside = np.argwhere(~lesion)
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    some = [(int(r), int(c)) for r, c in rng.permutation(outside)[:DELETED_CELLS]]
    rest = [(int(r), int(c)) for r, c in outside]
    everything = [(r, c) for r in range(GRID) for c in range(GRID)]
    nothing_left = cover_cells(film.image, everything)

    views = film.image, cover_cells(film.image, some), cover_cells(film.image, rest), nothing_left
    return [reader.probabilities(view, question, film) for view in views]


def main() -> int:
    """Print the table; 1 where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=checkpoint_path())
    parser.add_argument("--record", action="store_true", help="write them into TRAINING.json")
    options = parser.parse_args()
    figures = measure(options.folder)
    if options.record:
        path = options.folder / "TRAINING.json"
        record = json.loads(path.read_text()) | {"held_out": asdict(figures)}
        path.write_text(json.dumps(record, indent=2) + "\n")
    for what, figure, least in figures.rows():
        mark = "" if least is None else f">= {least}  {'ok' if figure >= least else 'MISSED'}"
        print(f"{what:62} {figure:6.3f}  {mark}")
    return 0 if figures.passed() else 1


if __name__ == "__main__":
    sys.exit(main())
