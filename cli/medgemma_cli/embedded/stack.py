"""Redis and S3 together, and the environment by which client and worker find them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from medgemma_cli.embedded.process import HOST
from medgemma_cli.embedded.redis import EmbeddedRedis
from medgemma_cli.embedded.s3 import REGION, EmbeddedS3


class EmbeddedStack:
    """Both servers as one context manager.

    Whatever was started is stopped when the context ends: by its end, an exception, Ctrl-C, or a
    SIGTERM or the SIGHUP of a closed terminal (which are turned into SystemExit where nothing else
    handles them). A SIGKILL of this process takes the servers along too, on Linux, and their
    temporary folders.

    ``folder`` keeps the data of both between runs; None uses temporary folders.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.redis = EmbeddedRedis(None if folder is None else folder / "redis")
        self.s3 = EmbeddedS3(None if folder is None else folder / "s3")
        self._exit = ExitStack()

    def environment(self) -> dict[str, str]:
        """The variables that lead a client or worker here. They hold credentials: not for logs."""
        unproxied = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        return {
            "MEDGEMMA_BROKER_URL": self.redis.url,
            "MEDGEMMA_STORE_URL": f"s3://{self.s3.bucket}",
            "MEDGEMMA_S3_ENDPOINT_URL": self.s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_SESSION_TOKEN": "",  # one of the user's own would go with our keys
            "AWS_CONFIG_FILE": os.devnull,  # and so would the endpoint or the role of a profile
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,  # the name that boto3 reads
            "AWS_EC2_METADATA_DISABLED": "true",
            "no_proxy": f"{unproxied},{HOST}" if unproxied else HOST,
        }

    def __enter__(self) -> Self:
        with ExitStack() as started:
            started.enter_context(_signals_as_exit())
            started.enter_context(self.redis)
            started.enter_context(self.s3)
            self._exit = started.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit.close()


@contextmanager
def _signals_as_exit() -> Iterator[None]:
    """By default these end Python with no clean-up at all; make them unwind like Ctrl-C."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        # A closed terminal may send two, by its shell and by the kernel: let us clean up in peace.
        for one in ours:
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)

    # Not what somebody else handles, nor what nohup ignores.
    ours = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if threading.current_thread() is threading.main_thread()
        and signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in ours:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
