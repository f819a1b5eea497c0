"""layers: from a file to contact sheets."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from medgemma_cli.main import app
from medgemma_worker.phantom.images import make_phantom


def test_layers_and_heads_are_drawn_into_a_folder(tmp_path: Path) -> None:
    film, out = make_phantom(910_000, kind="consolidation"), tmp_path / "out"
    film.image.save(tmp_path / "film.png")
    command = ["layers", str(tmp_path / "film.png"), "-p", "Is there a finding?"]
    done = CliRunner().invoke(
        app, [*command, "-k", "consolidation", "--heads-of", "5", "-o", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert film.answer in done.output
    assert {path.name for path in out.iterdir()} == {"layers.png", "heads.png"}
    with Image.open(out / "layers.png") as sheet:
        assert sheet.width > 600
