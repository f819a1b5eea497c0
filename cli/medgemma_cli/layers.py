"""layers: how a map builds up, layer by layer and head by head, as pictures; without a queue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def layers(
    image: Annotated[
        Path, typer.Argument(help="A PNG, JPEG, TIFF or DICOM file.", show_default=False)
    ],
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The question.")],
    keyword: Annotated[
        str | None,
        typer.Option("--keyword", "-k", help="A word of the answer; else the whole answer."),
    ] = None,
    heads_of: Annotated[
        int | None,
        typer.Option(min=0, help="Draw the heads of this layer too, counted from 0."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="phantom, a Hugging Face repository, or a folder.")
    ] = "phantom",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for layers.png and heads.png.")
    ] = Path("out/layers"),
) -> None:
    """Draw the map after each layer of the model, and the heads of one."""
    from medgemma_client.images import read_image
    from medgemma_client.writing import make_folder
    from medgemma_tasks.models import KeywordTarget
    from medgemma_worker import MedGemmaExplainer, load_medgemma

    folder = make_folder(out)
    picture = read_image(image).pixels
    target = None if keyword is None else KeywordTarget(keyword=keyword)
    loaded, processor, _ = load_medgemma(model, device=device)
    found = MedGemmaExplainer(loaded, processor).explain_layers(
        picture, prompt, target, heads_of=heads_of
    )
    print(f"Answer     {found.result.generated_text}")
    print(f"Explained  {found.result.spans[0].text!r}")
    sheets = {"layers.png": found.sheet(picture)}
    if heads_of is not None:
        sheets["heads.png"] = found.head_sheet(picture)
    for name, sheet in sheets.items():
        sheet.save(folder / name)
        print(f"Written    {folder / name}")
    print("Research use, not for diagnosis.")
