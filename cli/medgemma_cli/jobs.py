"""submit, status, fetch, cancel: the client library from a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from medgemma_cli import dicom as dicom_files
from medgemma_cli.asking import parts_of, place_of, text_of
from medgemma_cli.study import (
    BurnedInOption,
    GapsOption,
    PriorOption,
    SeriesOption,
    SlicesOption,
    StudyOption,
    WindowOption,
    asked_study,
)
from medgemma_cli.telling import print_result
from medgemma_cli.terminal import folded
from medgemma_tasks.errors import InvalidRequest, JobNotFinished, WaitTimeout

if TYPE_CHECKING:
    from medgemma_client import Job
    from medgemma_client.study import Study
    from medgemma_tasks.models import Status

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
LeftOfImage: TypeAlias = Literal["patient-right", "patient-left", "unknown"]
TopOfImage: TypeAlias = Literal[
    "patient-head", "patient-feet", "patient-front", "patient-back", "unknown"
]
JobId = Annotated[
    str, typer.Argument(help="Id of a job, as submit printed it.", show_default=False)
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for result.json, pictures, arrays and report.html."),
]
Nifti = Annotated[
    bool,
    typer.Option("--nifti", help="Write the maps of a volume as NIfTI too; needs --out."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0, metavar="SECONDS", help="How long to wait for it.")
]


def submit(
    prompt: Annotated[
        list[str],
        typer.Option(
            "--prompt",
            "-p",
            help="The question, read after the images. Or several texts, with @1, @2 ... where "
            'the images stand: -p "Before:" -p @1 -p "After:" -p @2 -p "What has changed?"',
            show_default=False,
        ),
    ],
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="PNG, JPEG, TIFF or DICOM files, in order.", show_default=False),
    ] = None,
    study: StudyOption = None,
    prior: PriorOption = None,
    series: SeriesOption = None,
    max_slices: SlicesOption = None,
    window: WindowOption = "medgemma",
    gaps: GapsOption = "refuse",
    burned_in: BurnedInOption = "warn",
    keyword: Annotated[
        list[str] | None,
        typer.Option("--keyword", "-k", help="Explain this word of the answer; may be repeated."),
    ] = None,
    occurrence: Annotated[int, typer.Option(help="Which occurrence of the keyword, from 1.")] = 1,
    part_of_word: Annotated[
        bool, typer.Option("--part-of-word", help="The keyword may be a part of a word.")
    ] = False,
    characters: Annotated[
        str | None,
        typer.Option(metavar="FROM:TO", help="Explain these characters of the answer, from 0."),
    ] = None,
    token: Annotated[
        int | None,
        typer.Option(help="Explain the token at this position of the whole sequence, from 0."),
    ] = None,
    every_token: Annotated[
        bool, typer.Option("--every-token", help="Explain each token of the answer by itself.")
    ] = False,
    prompt_word: Annotated[
        list[str] | None,
        typer.Option(help="Explain this word of the prompt; may be repeated."),
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option(help="Explain this answer and generate none; @FILE reads it from a file."),
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    method: Annotated[str, typer.Option(help="What computes the map.")] = "chefer",
    resolution: Annotated[
        Literal["token", "patch"],
        typer.Option(help="patch adds maps on the vision tower's finer grid."),
    ] = "token",
    areas: Annotated[
        bool, typer.Option("--areas", help="Measure how true each map is, which takes a while.")
    ] = False,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(help="Most tokens of the answer; 300, or fewer if the workers say so."),
    ] = None,
    pad: Annotated[
        bool, typer.Option("--pad/--no-pad", help="Pad images to a square first.")
    ] = True,
    left_of_image: Annotated[
        LeftOfImage | None, typer.Option(help="Whose side the images' left edge shows.")
    ] = None,
    top_of_image: Annotated[
        TopOfImage | None, typer.Option(help="Which end of the patient their top edge shows.")
    ] = None,
    expires: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="The deadline: past it the job is not run."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run again, even if it is known.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the result.")] = True,
    timeout: Timeout = 600.0,
    out: Out = None,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Write DICOM files too, for a PACS; needs --out.")
    ] = False,
    nifti: Nifti = False,
    as_json: Json = False,
) -> None:
    """Ask about images and explain the answer: all of it, or what is named of it."""
    from medgemma_client import Client

    check_files("--dicom", dicom, out, wait)
    check_files("--nifti", nifti, out, wait)
    _check_folder(out)
    client = Client()
    asked = asked_study(
        client,
        study,
        prior,
        series=series,
        max_slices=max_slices,
        window=window,
        gaps=gaps,
        burned_in=burned_in,
        max_new_tokens=max_new_tokens,
    )
    job = client.submit(
        list(images) if images else None,
        parts_of(prompt),
        study=asked,
        keyword=keyword,
        characters=None if characters is None else place_of(characters),
        token=token,
        every_token=every_token,
        prompt_words=prompt_word,
        occurrence=occurrence,
        whole_word=not part_of_word,
        answer=None if answer is None else text_of(answer),
        system=system,
        method=method,
        resolution=resolution,
        areas=areas,
        max_new_tokens=max_new_tokens,
        pad_to_square=pad,
        left_of_image=left_of_image,
        top_of_image=top_of_image,
        expires=expires,
        force=force,
    )
    if not wait:
        _print_status(job.status(), as_json)
        return
    if not as_json:
        # Whatever happens to the terminal now, the job can be found again.
        print(f"job {job.id}", file=sys.stderr, flush=True)
    given: Sequence[Path] | Study = asked if asked is not None else images or []
    _finish(job, out, timeout, as_json, dicom=given if dicom else None, nifti=nifti)


def status(job_id: JobId, as_json: Json = False) -> None:
    """Tell where a job stands."""
    from medgemma_client import Client

    _print_status(Client().job(job_id).status(), as_json)


def fetch(
    job_id: JobId,
    out: Out = None,
    timeout: Timeout = 0.0,
    nifti: Nifti = False,
    as_json: Json = False,
) -> None:
    """Print a job's answer, and save its result with --out."""
    from medgemma_client import Client

    check_files("--nifti", nifti, out, wait=True)
    _check_folder(out)
    _finish(Client().job(job_id), out, timeout, as_json, nifti=nifti)


def cancel(job_id: JobId, as_json: Json = False) -> None:
    """Cancel a job, for everyone who asked the same."""
    from medgemma_client import Client

    job = Client().job(job_id)
    job.cancel()
    _print_status(job.status(), as_json)


def _check_folder(out: Path | None) -> None:
    """Before a job that may take minutes, not after it."""
    if out is not None:
        from medgemma_client.writing import make_folder

        make_folder(out)


def check_files(flag: str, wanted: bool, out: Path | None, wait: bool) -> None:
    """Before anything is asked: a flag that asks for files has a folder for them, and a result.
    Raises InvalidRequest."""
    if wanted and (out is None or not wait):
        raise InvalidRequest(
            f"{flag} writes files once the result is there: name a folder by --out, and do not "
            "pass --no-wait."
        )


def _finish(
    job: Job,
    out: Path | None,
    timeout: float,
    as_json: bool,
    dicom: Sequence[Path] | Study | None = None,
    nifti: bool = False,
) -> None:
    """dicom: what was asked about, where DICOM files are wanted of it."""
    goes_on = f"goes on: medgemma-explainer fetch {job.id} --timeout 600"
    try:
        if timeout:
            result = job.wait(timeout=timeout, progress=False if as_json else None)
        else:
            result = job.result()
    except (JobNotFinished, WaitTimeout) as error:
        raise type(error)(f"Job {job.id} has not ended yet. It {goes_on}", job_id=job.id) from None
    except KeyboardInterrupt:
        if not as_json:
            print(f"The job {goes_on}", file=sys.stderr)
        raise
    if out is not None:
        result.save(out)
        if dicom is not None:
            dicom_files.write(result, dicom, out)
        if nifti:
            result.nifti(out / "relevancy.nii.gz")
    if as_json:
        print(result.record.model_dump_json())
        return
    print_result(result, out)


def _print_status(status: Status, as_json: bool) -> None:
    if as_json:
        print(status.model_dump_json())
        return
    from medgemma_client.watching import in_words

    words: list[Any] = [status.job_id, status.state.value]
    if status.stage is not None:
        words.append(f"{status.stage.value} {status.progress:.0%}")
    elif status.ahead is not None:
        words.append(f"({in_words(status)})")
    if status.error is not None:
        words.append(f"{status.error.message} [{status.error.code}]")
    print(folded(" ".join(map(str, words)), sys.stdout))
