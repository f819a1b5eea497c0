"""GDCM in a process of its own, under a limit of memory and time.

GDCM is the one freely licensed decoder of JPEG Lossless, which many archives hold. Damaged data
can make it call ``std::terminate``, which would end the caller's process with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgemma_client.tied import end_with_parent

GDCM = "gdcm"
"""pydicom's name of the plugin."""

_SECONDS = 120
"""A frame of 100 million pixels takes some 10 s."""
_MEMORY = 8 * 2**30
"""Bytes of address space: libraries, and a few copies of the largest frame."""


def decode_with_gdcm(frame: bytes, syntax: str, options: dict[str, Any]) -> NDArray[Any] | None:
    """Decode one encoded frame of a transfer syntax; None where the process failed or died.

    ``options`` are those of pydicom's ``Decoder.as_array``, plain numbers and terms alone.
    """
    question = json.dumps({"syntax": syntax, "options": options}).encode() + b"\n"
    try:
        done = subprocess.run(  # noqa: S603 - our own module, and no argument from outside
            [sys.executable, "-m", __name__, str(os.getpid())],
            input=question + frame,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=True,
        )
        values: NDArray[Any] = np.load(BytesIO(done.stdout), allow_pickle=False)
    except (subprocess.SubprocessError, OSError, ValueError, EOFError):
        return None
    return values


def _answer() -> None:
    """The process's side: a line of JSON and the frame on stdin, an .npy file on stdout."""
    end_with_parent(int(sys.argv[1]))
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold the pixels
    except (ImportError, ValueError, OSError):
        pass  # no such limits on this system, or lower ones in force
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    question = json.loads(sys.stdin.buffer.readline())
    source = encapsulate([sys.stdin.buffer.read()])
    decoder = get_decoder(question["syntax"])
    values, _ = decoder.as_array(source, index=0, decoding_plugin=GDCM, **question["options"])
    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=False)
    sys.stdout.buffer.write(buffer.getvalue())


if __name__ == "__main__":
    _answer()
