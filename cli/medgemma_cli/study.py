"""A study on the command line: what may be said of it, and what was chosen of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medgemma_cli.terminal import folded
from medgemma_tasks.errors import InvalidRequest

if TYPE_CHECKING:
    from medgemma_client import Client
    from medgemma_client.study import Study

StudyOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="A study in place of images: a folder, a zip file, or a DICOM file of many frames.",
    ),
]
PriorOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="An earlier study of the same patient.")
]
SeriesOption = Annotated[
    str | None,
    typer.Option(help="Which series of the study: its number, from 1, or a modality such as MR."),
]
SlicesOption = Annotated[
    int | None, typer.Option(min=1, help="Most slices; 85, or as many as the model has room for.")
]
WindowOption = Annotated[
    str,
    typer.Option(
        metavar="medgemma|file|CENTRE:WIDTH",
        help="How slices are shown: as the model was trained, as the files say, or one window.",
    ),
]
GapsOption = Annotated[
    Literal["refuse", "report"],
    typer.Option(help="Whether to go on where slices are missing, doubled or damaged."),
]
BurnedInOption = Annotated[
    Literal["warn", "refuse", "allow"],
    typer.Option(help="What to do where names are burnt into the pixels."),
]


def asked_study(
    client: Client, study: Path | None, prior: Path | None, *, series: str | None, **choices: Any
) -> Study | None:
    """The study that a question is about, and what was chosen of it on stderr; None where it is
    about images. Raises what ``Client.read_study`` does, and InvalidRequest."""
    if study is None:
        if prior is not None:
            raise InvalidRequest("A prior study needs a current one: name it with --study.")
        return None
    choices["window"] = window_of(choices["window"])
    number = int(series) if series is not None and series.isdecimal() else series
    found = client.read_study(study, prior=prior, series=number, **choices)
    for note in found.notes:
        print(folded(f"study: {note}", sys.stderr, indent=7), file=sys.stderr)
    return found


def window_of(said: str) -> str | tuple[float, float]:
    """``CENTRE:WIDTH`` as two numbers; any other word as it is. Raises InvalidRequest."""
    centre, colon, width = said.partition(":")
    if not colon:
        return said
    try:
        return float(centre), float(width)
    except ValueError:
        raise InvalidRequest(
            "--window takes medgemma, file, or a centre and a width, as 40:400."
        ) from None
