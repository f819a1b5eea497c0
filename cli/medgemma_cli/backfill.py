"""backfill: the questions of a manifest, from a terminal."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medgemma_cli.jobs import Json, LeftOfImage, TopOfImage
from medgemma_cli.progress import duration, told
from medgemma_cli.spelling import seconds, size

if TYPE_CHECKING:
    from medgemma_client.backfill.rows import BadRow
    from medgemma_client.backfill.run import Backfill


def backfill(
    manifest: Annotated[
        Path,
        typer.Argument(help="A CSV, JSONL or Parquet file, a row a question.", show_default=False),
    ],
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="For rows without one.", show_default=False)
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            help="For rows without one: answer, every-token, keyword:WORD, prompt:WORD, "
            "characters:FROM:TO or token:N; may be repeated.",
            show_default=False,
        ),
    ] = None,
    answer: Annotated[str | None, typer.Option(help="A given answer.", show_default=False)] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.", show_default=False)] = None,
    priority: Annotated[
        Literal["batch", "interactive"], typer.Option(help="Of rows that do not say.")
    ] = "batch",
    method: Annotated[str, typer.Option(help="What computes the map.")] = "chefer",
    resolution: Annotated[
        Literal["token", "patch"], typer.Option(help="patch adds maps on the finer grid.")
    ] = "token",
    areas: Annotated[bool, typer.Option("--areas", help="Measure how true each map is.")] = False,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of an answer.", show_default=False)
    ] = None,
    pad: Annotated[
        bool, typer.Option("--pad/--no-pad", help="Pad images to a square first.")
    ] = True,
    left_of_image: Annotated[
        LeftOfImage | None,
        typer.Option(help="Whose side all images' left edge shows.", show_default=False),
    ] = None,
    top_of_image: Annotated[
        TopOfImage | None,
        typer.Option(help="Which end of the patient their top edge shows.", show_default=False),
    ] = None,
    item_column: Annotated[
        str | None, typer.Option(help="Default: item, item_id or id.", show_default=False)
    ] = None,
    image_column: Annotated[
        list[str] | None,
        typer.Option(help="Default: image, images. May be repeated.", show_default=False),
    ] = None,
    allow_bucket: Annotated[
        list[str] | None,
        typer.Option(help="Read s3:// images of this bucket; may be repeated.", show_default=False),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="Its name; else one made of its content.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Default: runs/<run>/.", show_default=False),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on where it stopped.")
    ] = True,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run what failed or was refused again.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many rows.", show_default=False)
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="N|auto", help="Jobs of a message; auto asks the workers.")
    ] = "auto",
    in_flight: Annotated[
        int, typer.Option(min=1, help="Most jobs that are submitted and have not ended.")
    ] = 1000,
    processes: Annotated[
        int | None, typer.Option(min=1, help="That read images; default: a core each.")
    ] = None,
    expire_after: Annotated[
        float | None,
        typer.Option(
            parser=seconds,
            metavar="AGE",
            help="How long `purge` keeps what it leaves in the store: 90d, 12h, 3600s.",
            show_default=False,
        ),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(
            parser=size,
            metavar="BYTES",
            help="How much of it `purge` keeps: 500GB, 20MB.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask nothing: look at the images' headers, and count.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask the questions of a manifest, and write what came of them to runs/<run>/.

    Started again, it goes on where it stopped. Exit status 0; 1 where a row failed; 130 on Ctrl-C,
    which writes the files too.
    """
    from medgemma_client import Client
    from medgemma_client.backfill.rows import Defaults
    from medgemma_client.backfill.target import read_targets

    options = {
        "method": method,
        "resolution": resolution,
        "areas": areas,
        "max_new_tokens": max_new_tokens,
        "pad_to_square": pad,
        "left_of_image": left_of_image,
        "top_of_image": top_of_image,
    }
    defaults = Defaults(
        prompt=prompt,
        system=system,
        answer=answer,
        priority=priority,
        options={name: value for name, value in options.items() if value is not None},
        item_column=item_column,
        image_columns=tuple(image_column or ()),
        **read_targets(target or ()),
    )
    work = Client().backfill(
        manifest,
        defaults,
        run=run,
        out=out,
        resume=resume,
        retry_failed=retry_failed,
        limit=limit,
        shard=_shard(shard),
        in_flight=in_flight,
        processes=processes,
        buckets=tuple(allow_bucket or ()),
        expire_after=expire_after,
        max_bytes=max_bytes,
    )
    if dry_run:
        _tell_plan(work, as_json)
    else:
        _follow(work, as_json)


def _tell_plan(work: Backfill, as_json: bool) -> None:
    def refuse(bad: BadRow) -> None:
        line = {"row": bad.number, "item": bad.item, "code": bad.code, "cause": bad.message}
        item = "" if bad.item is None else f" {safe(bad.item)}"
        words = f"row {bad.number}{item}: {safe(bad.message)} [{bad.code}]"
        print(json.dumps(line) if as_json else words, flush=True)

    from medgemma_client.backfill.files import safe

    found = work.plan(refuse)
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        print(
            f"{found.rows:,} rows can be asked, {found.refused:,} would be refused; "
            f"{found.images:,} images, at most {found.tokens:,} tokens"
        )
        seconds = found.estimate.seconds
        time = "" if seconds is None else f"About {duration(seconds)}. "
        print(f"{time}{found.estimate.because}")
    if found.refused:
        raise typer.Exit(1)


def _follow(work: Backfill, as_json: bool) -> None:
    items = iter(work)
    try:
        # Closed even where it is broken off between two items: then too it writes its files.
        with closing(items), told(work, quiet=as_json) as tell:
            for item in items:
                tell(item)
    except KeyboardInterrupt:
        _end(work, as_json)
        if not as_json:
            print("Stopped; what is submitted goes on. Start it again to go on.", file=sys.stderr)
        raise
    _end(work, as_json)
    if work.summary["succeeded"] < work.summary["rows"]:
        raise typer.Exit(1)


def _end(work: Backfill, as_json: bool) -> None:
    summary: dict[str, Any] = work.summary
    if not summary:
        return
    if as_json:
        print(json.dumps({**summary, "folder": str(work.folder)}))
        return
    ends = [f"{summary[state]} {state}" for state in ("failed", "cancelled", "refused")]
    left = summary["submitted"] + summary["waiting"]
    print(
        f"{summary['rows']} rows: {summary['succeeded']} succeeded, "
        f"{', '.join(ends)}{f', {left} not ended' if left else ''}"
    )
    for code, number in summary["codes"].items():
        print(f"  {number:>8}  {code}")
    print(f"Look at {work.folder}: results.csv, failures.csv, summary.json")


def _shard(said: str) -> int | None:
    if said == "auto":
        return None
    if not said.isdecimal() or not 1 <= int(said) <= 256:
        raise typer.BadParameter("--shard takes a number from 1 to 256, or auto")
    return int(said)
