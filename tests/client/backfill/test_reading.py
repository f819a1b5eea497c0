"""Processes that read the images of rows: what they give, and what becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import psutil
import pydicom.data
import pytest
from PIL import Image

from medgemma_client.backfill import reading
from medgemma_client.backfill.patience import StoppedError
from medgemma_client.backfill.reading import Looked, Read, Readers
from medgemma_client.backfill.rows import BadRow, Row
from medgemma_client.images import read_image
from medgemma_tasks.errors import InternalError, error_classes
from medgemma_tasks.settings import Settings

Of = Callable[..., Readers]

WAIT = 20.0


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name, value in (("a.png", 10), ("b.png", 200)):
        Image.new("L", (4, 3), value).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG and no more")
    return tmp_path


@pytest.fixture
def readers(base: Path) -> Of:
    return lambda **said: Readers(
        said.pop("settings", None) or Settings(), base=base, processes=1, **said
    )


def row(number: int, *images: str, **said: Any) -> Row:
    return Row(number, f"item-{number}", images, said.pop("prompt", "?"), **said)


def hostile(base: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """Has the readers do something at each image of mode "P", which a decoder might do."""
    (base / "sitecustomize.py").write_text(
        "import os, signal, sys, time\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'medgemma_client.backfill.fetching':\n"
        "            sys.meta_path.remove(self)\n"
        "            from medgemma_tasks import raster\n"
        "            usual = raster._flat\n"
        "            def flat(image, invert):\n"
        f"                if image.mode == 'P': {does}\n"
        "                return usual(image, invert)\n"
        "            raster._flat = flat\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(base), path])))
    Image.new("P", (4, 4)).save(base / "hostile.png")


def test_a_row_that_was_read_has_what_is_uploaded_and_what_is_said_of_it(
    readers: Of, base: Path
) -> None:
    asked = row(1, "a.png", "b.png", options={"left_of_image": "patient-left"})
    with readers() as running:
        (found,) = running.read([asked])
    assert isinstance(found, Read)
    pictures = [read_image(base / name) for name in ("a.png", "b.png")]
    assert [ref.name for ref in found.refs] == [picture.name for picture in pictures]
    assert {ref.attributes.left_of_image for ref in found.refs} == {"patient-left"}
    for png, picture in zip(found.pngs, pictures, strict=True):
        assert np.array_equal(np.asarray(Image.open(BytesIO(png))), np.asarray(picture.pixels))


@pytest.mark.parametrize(
    ("images", "said", "code", "at"),
    [
        (["a.png", "broken.png"], {}, "truncated_image", "Image 2"),
        (["nowhere.png"], {}, "file_unreadable", "Image 1"),
        (["s3://other/a.png"], {}, "bucket_not_allowed", ""),
        (["a.png"], {"prompt": ("?", 0, 1)}, "invalid_request", ""),
        (["a.png"], {"options": {"left_of_image": "up"}}, "invalid_request", "Image 1"),
    ],
)
def test_an_image_that_cannot_be_used_refuses_its_row_by_code_and_place_but_not_by_name(
    readers: Of, images: list[str], said: dict[str, Any], code: str, at: str
) -> None:
    with readers() as running:
        bad, good = running.read([row(1, *images, **said), row(2, "a.png")])
    assert isinstance(bad, BadRow)
    assert (bad.number, bad.item, bad.code) == (1, "item-1", code)
    assert bad.message.startswith(at)
    assert not any(image in bad.message for image in images)
    assert isinstance(good, Read)


def test_a_bad_slice_in_a_folder_refuses_that_row_alone(readers: Of, base: Path) -> None:
    (base / "series").mkdir()
    for number in range(1, 12):
        Image.new("L", (4, 4), number).save(base / "series" / f"{number}.png")
    (base / "series" / "9.png").write_bytes(b"\x89PNG cut short")
    with readers() as running:
        bad, good = running.read([row(1, "series"), row(2, "series/1*.png")])
    assert isinstance(bad, BadRow)
    assert (bad.code, bad.message[:9]) == ("truncated_image", "Image 9: ")
    assert isinstance(good, Read)
    assert len(good.refs) == 3


@pytest.mark.parametrize(
    ("does", "code", "said"),
    [
        ("os._exit(7)", "decoder_died", "Image 2: the process"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "decoder_died", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "decoder_died", "SIGKILL"),
        ("time.sleep(600)", "reading_time_limit", "Image 2: the limit of 5 s"),
        ("bytearray(2**50)", "truncated_image", "Image 2: "),
    ],
)
def test_a_decoder_that_dies_or_hangs_costs_its_row_alone(
    readers: Of, base: Path, monkeypatch: pytest.MonkeyPatch, does: str, code: str, said: str
) -> None:
    hostile(base, monkeypatch, does)
    rows = [row(1, "a.png"), row(2, "a.png", "hostile.png"), row(3, "a.png")]
    with readers(row_seconds=5 if "sleep" in does else 300) as running:
        first, second, third = running.read(rows)
    assert isinstance(first, Read)
    assert isinstance(second, BadRow)
    assert second.code == code
    assert said in second.message
    assert isinstance(third, Read)


def test_an_image_of_more_pixels_than_allowed_is_refused_before_it_is_decoded(
    readers: Of, base: Path
) -> None:
    Image.new("1", (9_000, 9_000)).save(base / "bomb.png")
    with readers(settings=Settings(max_pixels=80_000_000)) as running:
        (read,) = running.read([row(1, "bomb.png")])
        (looked,) = running.look([row(1, "bomb.png")])
    assert isinstance(read, BadRow)
    assert isinstance(looked, BadRow)
    assert read.code == looked.code == "image_too_large"


def test_each_file_that_pydicom_ships_is_read_or_refused_by_a_code(readers: Of) -> None:
    folder = Path(pydicom.data.__file__).parent / "test_files"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = [row(number, str(path)) for number, path in enumerate(files, 1)]
    with readers() as running:
        read = {found_number(found): found for found in running.read(rows)}
        looked = {found_number(found): found for found in running.look(rows)}
    assert read.keys() == looked.keys() == {asked.number for asked in rows}
    good = {number for number, found in read.items() if isinstance(found, Read)}
    assert len(good) > 50
    for found in (*read.values(), *looked.values()):
        if isinstance(found, BadRow):
            assert found.code in error_classes()
            assert found.code not in ("decoder_died", "internal_error", "reading_time_limit")
    # A header tells less than all of it, and never something else.
    for number, found in looked.items():
        if isinstance(found, BadRow):
            refused = read[number]
            assert isinstance(refused, BadRow)
            assert refused.code == found.code
    assert good <= {number for number, found in looked.items() if isinstance(found, Looked)}


def found_number(found: Read | Looked | BadRow) -> int:
    return found.number if isinstance(found, BadRow) else found.row.number


def test_only_a_few_rows_are_looked_ahead(readers: Of) -> None:
    asked: list[int] = []

    def rows() -> Iterator[Row | BadRow]:
        for number in range(1, 50):
            asked.append(number)
            yield row(number, "a.png")

    with readers() as running:
        found = running.read(rows())
        next(found)
        assert len(asked) <= 3
        assert sum(1 for _ in found) == 48


def test_no_more_bytes_are_held_than_allowed_and_a_larger_row_goes_alone(
    readers: Of, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    Image.fromarray(noise).save(base / "noise.png")
    monkeypatch.setattr(reading, "MOST_BYTES", 5_000)  # one of them, not two
    most = []
    with readers() as running:
        usual = running._held.take
        running._held.take = lambda more: (usual(more), most.append(running._held._bytes))[0]  # type: ignore[method-assign, func-returns-value]
        found = [*running.read([row(n, "noise.png") for n in range(6)])]
    assert len(found) == 6
    assert all(isinstance(each, Read) for each in found)
    assert max(most) == sum(map(len, found[0].pngs))  # type: ignore[union-attr]


def test_a_refused_row_of_the_manifest_is_passed_on(readers: Of) -> None:
    with readers() as running:
        assert [*running.read([refused := BadRow(1, None, "row_malformed", "No.")])] == [refused]


def test_reading_that_is_given_up_early_can_be_begun_again(readers: Of) -> None:
    with readers() as running:
        given_up = running.read([row(n, "a.png") for n in range(9)])
        next(given_up)
        given_up.close()  # type: ignore[attr-defined]
        (found,) = running.read([row(99, "b.png")])
    assert isinstance(found, Read)
    assert found.row.number == 99
    assert running._held._bytes == 0


def test_no_process_is_left_whatever_ends_the_reading(readers: Of) -> None:
    with suppress(ZeroDivisionError), readers() as running:
        found = running.read([row(n, "a.png") for n in range(9)])
        next(found)
        (child,) = running._children
        process = child._process
        assert process is not None
        raise ZeroDivisionError
    assert process.poll() is not None


def test_a_row_that_comes_once_the_processes_were_ended_is_not_waited_for(readers: Of) -> None:
    """Whoever breaks a run off ends them at any time; the rows come from another thread."""
    stopped = Event()
    with readers() as running:

        def rows() -> Iterator[Row]:
            yield row(1, "a.png")
            running.__exit__(None, None, None)
            yield row(2, "a.png")

        def read() -> None:
            with pytest.raises(StoppedError):
                [*running.read(rows())]
            stopped.set()

        Thread(target=read, daemon=True).start()
        assert stopped.wait(WAIT)


def test_readers_that_cannot_be_started_say_so(
    readers: Of, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "sitecustomize.py").write_text("import os; os._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(base))
    with readers() as running, pytest.raises(InternalError, match="cannot be started"):
        [*running.read([row(1, "a.png")])]


_PARENT = """
import sys
from pathlib import Path
from medgemma_client.backfill.reading import Readers
from medgemma_client.backfill.rows import Row
from medgemma_tasks.settings import Settings

def rows():
    yield Row(1, "1", ("a.png",), "?")
    yield Row(2, "2", (sys.argv[2],), "?")

with Readers(Settings(), base=Path(sys.argv[1]), processes=2) as readers:
    for found in readers.read(rows()):
        print(*(child._process.pid for child in readers._children if child._process), flush=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_readers_amid_a_decoder_end_with_the_process_that_has_them(
    base: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    hostile(base, monkeypatch, "time.sleep(600)")
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(base), "hostile.png"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.send_signal(signum)
    told = parent.communicate(timeout=30)[1]
    assert told.count("KeyboardInterrupt") == (signum == signal.SIGINT)  # no child's trace
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_readers_pass_over_an_interrupt_of_their_own(readers: Of) -> None:
    def rows(running: Readers) -> Iterator[Row]:
        yield from (row(number, "a.png") for number in (1, 2, 3))
        # The third was asked once the first was answered, so that the process is there.
        process = running._children[0]._process
        assert process is not None
        os.kill(process.pid, signal.SIGINT)
        yield row(4, "a.png")

    with readers() as running:
        found = [*running.read(rows(running))]
    assert [type(each) for each in found] == [Read] * 4
