"""evaluate: is the map true? Every method measured on phantoms, or on questions of one's own."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_tasks.errors import FileUnreadable, InvalidRequest

if TYPE_CHECKING:
    from PIL.Image import Image


class Filling(StrEnum):
    """What lies under a covered cell."""

    BLUR = "blur"
    MEAN = "mean"


def evaluate(
    model: Annotated[
        str, typer.Option(help="phantom, a Hugging Face repository, or a folder.")
    ] = "phantom",
    questions: Annotated[
        Path | None,
        typer.Option(
            help='Instead of phantoms, a file with one JSON object a line: "image" (a path, '
            'relative to the file), "prompt", and if wanted "keyword" and "other".'
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many phantoms.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the first phantom.")] = 400_000,
    fill: Annotated[Filling, typer.Option(help="What lies under a covered cell.")] = Filling.BLUR,
    methods: Annotated[
        str | None, typer.Option(help="Methods by name, with commas; all of them by default.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Variants scored in one forward pass.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 300,
    revision: Annotated[str | None, typer.Option(help="Commit of the repository.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The JSON; the plot goes beside it as PNG.")
    ] = Path("evaluate.json"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON instead of the table.")
    ] = False,
) -> None:
    """Insertion and deletion of pixels, sanity checks, and lesions that are known."""
    from medgemma_worker.loading import load_medgemma, revision_of
    from medgemma_worker.relevancy.methods import NAMES
    from medgemma_worker.truth.evaluate import Setup
    from medgemma_worker.truth.evaluate import evaluate as run
    from medgemma_worker.truth.plot import draw
    from medgemma_worker.truth.questions import from_lines, phantoms, read_lines
    from medgemma_worker.truth.table import table

    # What can be wrong in the call is found before minutes are spent.
    names = _methods(methods, list(NAMES))
    lines = read_lines(questions) if questions else None
    if out.suffix.lower() == ".png":
        raise InvalidRequest("--out names the JSON; the plot beside it is the PNG.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.open("a").close()
    except OSError as error:
        raise FileUnreadable(
            f"The file of --out cannot be written ({type(error).__name__})."
        ) from None
    loaded, processor, _ = load_medgemma(model, device=device, dtype=dtype, revision=revision)
    setup = Setup(
        model=loaded,
        processor=processor,
        name=model if not Path(model).is_dir() else Path(model).resolve().name,
        revision=revision_of(model, loaded),
        methods=names,
        fill=fill.value,
        batch=batch,
        max_new_tokens=max_new_tokens,
    )
    if questions is None or lines is None:
        report = run(setup, phantoms(count, seed), source="phantoms", first_seed=seed, tell=_tell)
    else:
        asked = from_lines(lines, questions.parent, _read)
        report = run(setup, asked, source="questions", tell=_tell)
    out.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    plot = out.with_suffix(".png")
    draw(report).save(plot)
    if as_json:
        print(report.model_dump_json())
        return
    print(table(report))
    print(f"\nWritten    {out}\n           {plot}")
    print("Research use, not for diagnosis.")


def _methods(wanted: str | None, there: list[str]) -> list[str]:
    if wanted is None:
        return there
    names = list(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    unknown = [name for name in names if name not in there]
    if unknown or not names:
        raise InvalidRequest(
            f"There is no method {unknown[0]!r}; there are {', '.join(there)}."
            if unknown
            else f"No method was named; there are {', '.join(there)}."
        )
    return names


def _read(path: Path) -> Image:
    from medgemma_client.images import read_image

    return read_image(path).pixels


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
