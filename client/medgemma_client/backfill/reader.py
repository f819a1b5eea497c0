"""What one of the processes does that read images: ``python -m medgemma_client.backfill.reader``.

On stdin a line of JSON with its settings, then one for each row; on stdout a line when it is
ready, then for each row one for each image it turns to, and one of what came of the row, the bytes
of its images behind it. It touches files that were written by others with decoders in C, so that
it may be ended at any time, by itself too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

from medgemma_client.tied import end_with_parent

MOST_ROW_BYTES = 2**30
"""Of all images of one row, as they are uploaded."""
_MEMORY = 8 * 2**30
_MEMORY_A_PIXEL = 100
"""Bytes of address space: libraries and a row's images; and a few copies, in float64, of the
largest image that is allowed."""


def main() -> None:
    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends it, also amid a decoder
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no answer
    said = json.loads(sys.stdin.buffer.readline())
    _limit_memory(said["settings"]["max_pixels"])
    reader = _Reader(said, answers)
    reader.say({"ready": True})
    for line in sys.stdin.buffer:
        reader.answer(json.loads(line))


class _Reader:
    def __init__(self, said: dict[str, Any], answers: IO[bytes]) -> None:
        from medgemma_client.backfill.fetching import Fetcher
        from medgemma_tasks.settings import Settings

        # Not from the environment, and without the broker, which is no concern of a reader's.
        settings = Settings.model_construct(**said["settings"])
        self._fetcher = Fetcher(settings)
        self._max_images = settings.max_images
        self._base, self._buckets = Path(said["base"]), said["buckets"]
        self._seconds = said["seconds"]
        self._answers = answers

    def say(self, what: dict[str, Any], *bodies: bytes) -> None:
        self._answers.write(json.dumps(what).encode() + b"\n")
        for body in bodies:
            self._answers.write(body)
        self._answers.flush()

    def answer(self, asked: dict[str, Any]) -> None:
        """One row: its images, or why they cannot be used."""
        from medgemma_tasks.errors import DecoderDied, InternalError, MedGemmaError

        bodies: list[bytes] = []
        self._at = 0
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        try:
            what = self._row(asked, bodies)
        except MedGemmaError as error:
            what = self._refused(error)
        except MemoryError:
            what = self._refused(DecoderDied("Reading it takes too much memory."))
        except Exception as error:  # noqa: BLE001 - one row must not cost the others their reader
            # Its text may quote the file.
            what = self._refused(InternalError(f"Reading failed ({type(error).__name__})."))
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.say(what, *(bodies if "refs" in what else ()))

    def _row(self, asked: dict[str, Any], bodies: list[bytes]) -> dict[str, Any]:
        from medgemma_client.backfill.resolve import resolve
        from medgemma_client.images.reference import reference
        from medgemma_tasks.errors import ImageTooLarge, InvalidRequest

        places = resolve(
            asked["images"], base=self._base, buckets=self._buckets, max_images=self._max_images
        )
        if asked["named"] not in (None, len(places)):
            raise InvalidRequest(
                f"The prompt names {asked['named']} images, and the row has {len(places)}."
            )
        refs = []
        for self._at, place in enumerate(places, 1):
            self.say({"at": self._at})
            if not asked["pixels"]:
                self._fetcher.look(place)
                continue
            picture = self._fetcher.read(place)
            refs.append(reference(picture, asked["lie"]).model_dump(mode="json"))
            bodies.append(picture.png())
            if sum(map(len, bodies)) > MOST_ROW_BYTES:
                raise ImageTooLarge(
                    f"The images of the row have more than {MOST_ROW_BYTES} bytes together. Split "
                    "the row."
                )
        return {"images": len(places), "refs": refs, "sizes": [*map(len, bodies)]}

    def _refused(self, error: Any) -> dict[str, Any]:
        where = f"Image {self._at}: " if self._at else ""
        return {"code": error.code, "message": where + error.message}


def _limit_memory(max_pixels: int) -> None:
    try:
        import resource

        most = _MEMORY + _MEMORY_A_PIXEL * max_pixels
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold the pixels
    except (ImportError, ValueError, OSError):
        pass  # no such limits on this system, or lower ones in force


if __name__ == "__main__":
    main()
