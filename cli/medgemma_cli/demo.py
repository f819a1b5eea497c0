"""demo: the whole way of a job on real parts, from nothing, in one command.

Redis, S3, worker and client are processes of their own, as at work; only they all run here and end
with this command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgemma_tasks.errors import InvalidRequest, JobError, error_from_code

if TYPE_CHECKING:
    from medgemma_tasks.models import ExplanationRecord
    from medgemma_worker.phantom.images import Phantom

PHANTOM_SEED = 20_001
"""The phantom that is shown; any number gives another one."""
ANSWER_TOKENS = 40
"""Several times a phantom's answer; on other images the tiny model may not find its end."""


@dataclass(frozen=True, repr=False)
class _Question:
    image: Path
    study: bool
    prompt: str
    keyword: str | None
    phantom: Phantom | None


def demo(
    image: Annotated[
        Path | None, typer.Option(help="An image of your own: PNG, JPEG, TIFF or DICOM.")
    ] = None,
    study: Annotated[
        Path | None, typer.Option(help="A study of your own: a folder or a zip file.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="The question.")] = "Is there a finding?",
    keyword: Annotated[
        str | None, typer.Option(help="Word of the answer to explain; else the whole answer.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for what the demo writes.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="Which phantom to show.")] = PHANTOM_SEED,
    browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser, if there is one.")
    ] = True,
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep the page up until Ctrl-C, screen or no screen.")
    ] = False,
) -> None:
    """Start Redis, S3 and a worker here, explain one image, show it on the page, stop them all.

    Where there is no screen it ends by itself, without the page; --serve keeps that up.
    """
    from medgemma_cli import showing
    from medgemma_cli.embedded import EmbeddedStack, EmbeddedWorker
    from medgemma_cli.embedded.service import without_settings
    from medgemma_client.writing import make_folder

    make_folder(out)
    # This process ends with the demo, so its environment may lead to the demo's parts alone.
    for name in os.environ.keys() - without_settings(os.environ).keys():
        del os.environ[name]
    with ExitStack() as running:
        print("Starting Redis and S3 ...", flush=True)
        stack = running.enter_context(EmbeddedStack())
        os.environ.update(stack.environment(), MEDGEMMA_MODEL="phantom")
        print("Starting a worker with the phantom model ...", flush=True)
        worker = running.enter_context(EmbeddedWorker(out / "worker.log"))
        if image or study:
            question = _own(image, study, prompt, keyword)
        else:
            question = _phantom(out, prompt, keyword, seed)
        worker.ready()
        print(f"Asking {question.prompt!r} from a client process ...", flush=True)
        record = _submit(question, out)
        _tell(record, question, out)
        screen = showing.has_screen()
        if shown := serve or (screen and showing.can_show()):
            showing.show(
                lambda: _every_word(question, record.job_id),
                out,
                browser=browser and screen,
                alive=lambda: worker.alive,
            )
    if not shown:
        print("The page   make demo SERVE=yes (--serve) shows this on a page, each word to click")
    print("\nResearch use, not for diagnosis. Everything that was started has been stopped.")


def _own(image: Path | None, study: Path | None, prompt: str, keyword: str | None) -> _Question:
    own = image or study
    if own is None or (image and study):
        raise InvalidRequest("The demo takes an image or a study, not both.")
    print(
        "Note: the phantom model was trained on drawn chest phantoms and knows nothing of real\n"
        "      images. What it says of yours means nothing; the way it takes is the real one."
    )
    return _Question(own, study is not None, prompt, keyword, None)


def _phantom(out: Path, prompt: str, keyword: str | None, seed: int) -> _Question:
    from medgemma_worker.phantom.images import make_phantom

    phantom = make_phantom(seed)
    while phantom.kind is None:
        seed += 1
        phantom = make_phantom(seed)
    path = out / "input.png"
    phantom.image.save(path)
    return _Question(path, False, prompt, keyword or phantom.kind, phantom)


def _submit(question: _Question, out: Path) -> ExplanationRecord:
    from medgemma_tasks.models import ExplanationRecord

    command = [sys.executable, "-m", "medgemma_cli", "submit"]
    if question.study:
        command += ["--study", str(question.image), "--dicom"]
    else:
        command += [str(question.image)]
    command += ["--prompt", question.prompt, "--out", str(out), "--json"]
    command += ["--max-new-tokens", str(ANSWER_TOKENS)]
    if question.keyword:
        command += ["--keyword", question.keyword]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        error = json.loads(done.stdout or "{}").get("error")
        if error is None:
            raise JobError("The client process failed; see what it printed above.")
        raise error_from_code(error["code"], error["message"], {})
    return ExplanationRecord.model_validate_json(done.stdout)


def _tell(record: ExplanationRecord, question: _Question, out: Path) -> None:
    print(f"\nAnswer     {record.answer}")
    print(f"Explained  {record.targets[0].span.text!r}")
    shown, peak = record.images[0], record.targets[0].maps[0].peak_cell
    row, column = peak
    # Counted from 1, as in the report: its readers are people.
    print(
        f"Peak       row {row + 1}, column {column + 1} of {shown.rows} x {shown.columns}", end=""
    )
    if question.phantom is not None and question.phantom.mask.any():
        from medgemma_worker.phantom.images import overlaps_cell

        hit = overlaps_cell(question.phantom.mask, peak, grid=shown.rows)
        print(f"; the {question.phantom.kind} is in the {question.phantom.zone}: ", end="")
        print("the peak lies on it (within a cell)" if hit else "the peak MISSES it", end="")
    print(f"\nOpen       {out / 'report.html'}\n           {out / shown.overlay}", flush=True)


def _every_word(question: _Question, job_id: str) -> str:
    """The job to look at on the page: one with a map of each word, or, of a study, that which was
    explained."""
    if question.study:
        return job_id
    from medgemma_client import Client

    asked = Client().submit(
        question.image,
        question.prompt,
        keyword=question.keyword,
        every_token=True,
        max_new_tokens=ANSWER_TOKENS,
    )
    return asked.id
