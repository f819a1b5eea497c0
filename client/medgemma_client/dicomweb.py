"""A study from a DICOMweb server to a folder, and results back to it: QIDO, WADO and STOW.

Only servers that MEDGEMMA_DICOMWEB_HOSTS names are called, none by default. dicomweb-client speaks
to them; what is added here are bounds. URLs hold UIDs, so no URL is in a log or an error.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from medgemma_client.vanishing import vanishing_folder
from medgemma_tasks.errors import (
    DicomSupportMissing,
    DicomwebRefused,
    DicomwebUnreachable,
    FileUnreadable,
    FileUnwritable,
    HostNotAllowed,
    InvalidRequest,
    StudyTooLarge,
)
from medgemma_tasks.quiet import without_logs
from medgemma_tasks.settings import Settings, load_settings, without_credentials
from medgemma_tasks.transport import travels_plain

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient
    from pydicom.dataset import Dataset

    from medgemma_client.one_host import OneHost

READ_TIMEOUT = 60.0
"""Seconds that a server may be silent."""

MOST_INSTANCES = 2000
"""A CT of the whole body has some; each is a file."""

_TAKEN, _FAILED = "ReferencedSOPSequence", "FailedSOPSequence"
"""Where the answer to a STOW lists instances."""

MOST_BYTES = 8 * 2**30
"""Of a study."""

_LOGGERS = (
    "dicomweb_client",
    *(f"dicomweb_client.{name}" for name in ("web", "uri", "protocol", "session_utils")),
    *("urllib3.connectionpool", "urllib3.connection", "urllib3.response", "urllib3.util.retry"),
    *("requests", "pydicom"),
)

Result: TypeAlias = "Dataset | bytes | str | os.PathLike[str]"
"""A DICOM data set, or the bytes or the path of a DICOM file."""


class DicomWeb:
    """A DICOMweb server: ``DicomWeb("https://pacs.example.org/dicom-web")``.

    Making one reaches for nothing. Calls raise DicomwebUnreachable and DicomwebRefused.
    """

    def __init__(self, url: str, settings: Settings | None = None, *, auth: Any = None) -> None:
        """``auth``: of the server, as requests takes it: (user, password), or an AuthBase.

        Raises HostNotAllowed, InvalidRequest where the URL is none that may be used, and
        DicomSupportMissing.
        """
        self._settings = load_settings() if settings is None else settings
        self._url, self._auth = url.rstrip("/"), auth
        self._address = without_credentials(url)
        _check(url, self._settings)
        if importlib.util.find_spec("dicomweb_client") is None:
            raise DicomSupportMissing(
                "The package that speaks DICOMweb is not installed. "
                'Run: pip install "medgemma-explainer[dicom]"'
            )

    def __repr__(self) -> str:
        return f"DicomWeb({self._address!r})"

    @contextmanager
    def study(
        self,
        study_uid: str,
        series_uid: str | None = None,
        *,
        most_instances: int = MOST_INSTANCES,
        most_bytes: int = MOST_BYTES,
    ) -> Iterator[Path]:
        """A folder with the files of a study, or of one series of it: 00001.dcm and so on.

        It is a temporary one, gone when the context or the process ends, however that ends. An
        instance has at most MEDGEMMA_MAX_FILE_BYTES. One is in memory at a time, and none is
        parsed here.

        Raises StudyTooLarge, InvalidRequest, FileUnwritable where the disk is full.
        """
        uids = [_uid(study_uid), *([] if series_uid is None else [_uid(series_uid)])]
        with vanishing_folder("medgemma-study-") as folder:
            with self._talking():
                listed = self._count(uids, most_instances)
                sent = self._fetch(uids, folder, most_instances, most_bytes)
            if sent < listed:
                raise DicomwebUnreachable(
                    f"{self._address} lists {listed} instances and sends {sent}. Try again, or "
                    "look at the server's log: a volume with slices missing is no volume."
                )
            yield folder

    def store(self, results: Iterable[Result]) -> int:
        """Store data sets, or files by their paths or bytes; how many the server took.

        One at a time: where one is refused, those before it are stored. Raises DicomwebRefused,
        FileUnreadable.
        """
        stored = 0
        for result in results:
            dataset = _dataset(result)
            with self._talking():
                answer = self._client.store_instances([dataset])
            self._check_stored(answer, dataset, stored)
            stored += 1
        return stored

    # --- reading -------------------------------------------------------------------------------

    def _count(self, uids: list[str], most: int) -> int:
        """By QIDO how many there are, before anything large is asked for."""
        # One more than may be: a server may give fewer at a time than it has, and then WADO tells.
        found = self._client.search_for_instances(*uids, limit=most + 1)
        if not found:
            raise DicomwebRefused(f"{self._address} has no such study or series for you.")
        if len(found) > most:
            raise StudyTooLarge(
                f"The study has more than {most} instances. Ask for one series of it, or raise "
                "most_instances.",
                limit=most,
            )
        return len(found)

    def _fetch(self, uids: list[str], folder: Path, most: int, most_bytes: int) -> int:
        """By WADO all of them, a file each; how many came."""
        place = "/".join(chain(*zip(("studies", "series"), uids, strict=False)))
        largest = self._settings.max_file_bytes
        self._host.allow(largest, most_bytes)
        parts = self._client.iter_bulkdata(f"{self._url}/{place}")
        number = 0
        for number, part in enumerate(parts, 1):
            if number > most:
                raise StudyTooLarge(f"The server sends more than {most} instances.", limit=most)
            _write(folder / f"{number:05}.dcm", part)
            self._host.next_part()
        return number

    # --- storing -------------------------------------------------------------------------------

    def _check_stored(self, answer: Dataset, dataset: Dataset, before: int) -> None:
        taken = [item.get("ReferencedSOPInstanceUID") for item in answer.get(_TAKEN, ())]
        if dataset.SOPInstanceUID in taken:
            return
        reasons = {f"{int(item.get('FailureReason', 0)):04X}" for item in answer.get(_FAILED, ())}
        why = f"failure reason {', '.join(sorted(reasons))}" if reasons else "it does not say that"
        raise DicomwebRefused(
            f"{self._address} did not store result {before + 1} ({why}); {before} before it are "
            "stored.",
            status=self._host.status,
        )

    # --- the wire ------------------------------------------------------------------------------

    @cached_property
    def _host(self) -> OneHost:
        from medgemma_client.one_host import OneHost

        return OneHost(self._url)

    @cached_property
    def _client(self) -> DICOMwebClient:
        import requests
        from dicomweb_client.api import DICOMwebClient

        session = requests.Session()
        session.auth = self._auth
        session.verify = self._settings.ca_file or True
        for scheme in ("http://", "https://"):
            session.mount(scheme, self._host)
        client = DICOMwebClient(
            self._url, session, timeout=(self._settings.connect_timeout, READ_TIMEOUT)
        )
        # It would send a body again that it has already read to its end.
        client.set_http_retry_params(retry=False)
        return client

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Errors of the library's, which quote URLs, become ours; its logs do too, and are off."""
        from requests import HTTPError, RequestException

        with without_logs(*_LOGGERS):
            try:
                self._host.allow(self._settings.max_file_bytes, self._settings.max_file_bytes)
                yield
            except HTTPError:
                status = self._host.status
                raise DicomwebRefused(
                    f"{self._address} refused (HTTP {status}). Check the UID, the URL's path and "
                    "what you are allowed to.",
                    status=status,
                ) from None
            except (ValueError, KeyError, TypeError) as error:
                raise DicomwebUnreachable(
                    f"{self._address} answers as no DICOMweb server does ({type(error).__name__})."
                    " Check the URL's path."
                ) from None
            except (RequestException, OSError) as error:
                raise DicomwebUnreachable(
                    f"{self._address} cannot be reached ({type(error).__name__}). Check that the "
                    "server runs (and, where it is about SSL, that MEDGEMMA_CA_FILE vouches for "
                    "it)."
                ) from None


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise FileUnwritable(
            "The study cannot be written to the folder for temporary files "
            f"({error.strerror or type(error).__name__}). Make room, or name another in TMPDIR."
        ) from None


def _check(url: str, settings: Settings) -> None:
    address = without_credentials(url)
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(
            "The URL of the DICOMweb server must look like https://host:port/path."
        )
    if "@" in url or "?" in url or "#" in url:
        raise InvalidRequest(
            "The URL of the DICOMweb server holds more than a path. Give user and password as "
            "auth=(user, password)."
        )
    if parts.netloc.lower() not in settings.dicomweb_hosts.split(","):
        raise HostNotAllowed(
            f"{parts.netloc} is not among the DICOMweb servers that may be called. Set "
            f"MEDGEMMA_DICOMWEB_HOSTS={parts.netloc} to allow it; several with commas between "
            "them."
        )
    if travels_plain(address) and not settings.allow_plain:
        raise HostNotAllowed(
            f"{address} would send patient data in the clear to another machine. Use https://; or, "
            "on a network of your own that nobody else reaches, set MEDGEMMA_ALLOW_PLAIN=true."
        )


def _uid(uid: str) -> str:
    """A UID that is fit to be a part of a URL's path, or InvalidRequest."""
    if not (isinstance(uid, str) and 0 < len(uid) <= 64 and set(uid) <= set("0123456789.")):
        raise InvalidRequest("A UID has up to 64 digits and dots; this is none.")
    return uid


def _dataset(result: Result) -> Dataset:
    """A result as a data set that can be written to a file. Raises FileUnreadable."""
    import pydicom

    with without_logs(*_LOGGERS), BytesIO() as written:
        try:
            if isinstance(result, pydicom.Dataset):
                dataset = result
            elif isinstance(result, bytes):
                dataset = pydicom.dcmread(BytesIO(result))
            else:
                dataset = pydicom.dcmread(os.fspath(result))
            pydicom.dcmwrite(written, dataset, enforce_file_format=True)
            # As it is sent: dicomweb-client alone would leave out a preamble that is not there.
            return pydicom.dcmread(BytesIO(written.getvalue()))
        except Exception as error:  # noqa: BLE001 - a damaged file raises almost anything
            raise FileUnreadable(
                f"A result is no DICOM file that can be stored ({type(error).__name__})."
            ) from None
