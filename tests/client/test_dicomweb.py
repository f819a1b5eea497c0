"""A study comes by DICOMweb and results go back by it: from allowed servers alone, in bounds."""

from __future__ import annotations

import logging
import tempfile
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pydicom
import pytest

from medgemma_client.dicomweb import DicomWeb
from medgemma_client.images import read_image
from medgemma_tasks.errors import (
    DicomwebRefused,
    DicomwebUnreachable,
    FileUnreadable,
    HostNotAllowed,
    InvalidRequest,
    InvalidSettings,
    MedGemmaError,
    StudyTooLarge,
)
from medgemma_tasks.settings import Settings, load_settings
from tests.client.dicomweb_server import PART, SERIES, STUDY, Server, serving
from tests.privacy.canaries import dicom, found

OTHER = f"{STUDY}.2"
SCANS = {SERIES: dicom(3), OTHER: dicom(5)}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, which is empty again after whatever happened."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(autouse=True)
def nothing_is_told(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    assert found(caplog.text) == []


def allowed(server: Server, **said: object) -> DicomWeb:
    return DicomWeb(
        f"{server.url}/dicom-web/",
        Settings(dicomweb_hosts=urlsplit(server.url).netloc, **said),  # type: ignore[arg-type]
    )


@contextmanager
def refused(
    kind: type[MedGemmaError], match: str = "."
) -> Iterator[pytest.ExceptionInfo[MedGemmaError]]:
    """It fails so, and neither message nor trace tells a UID or a URL's path."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    said = f"{caught.value.details!r}" + "".join(traceback.format_exception(caught.value))
    assert found(said) == []


def test_a_study_is_a_folder_of_its_files_as_they_are(temporary: Path) -> None:
    with serving(instances=SCANS) as server:
        with allowed(server).study(STUDY) as folder:
            assert folder.parent == temporary
            files = sorted(folder.iterdir())
            assert [file.name for file in files] == ["00001.dcm", "00002.dcm"]
            assert [file.read_bytes() for file in files] == list(SCANS.values())
            assert read_image(files[0]).name == read_image(SCANS[SERIES]).name
        ways = [(method, path.partition("?")[0]) for method, path, _ in server.asked]
    assert ways == [
        ("GET", f"/dicom-web/studies/{STUDY}/instances"),
        ("GET", f"/dicom-web/studies/{STUDY}"),
    ]
    for _, _, headers in server.asked:
        assert headers["Host"] == urlsplit(server.url).netloc
        assert headers["Accept-Encoding"] == "identity"
    assert 'type="application/dicom"; transfer-syntax=*' in server.asked[1][2]["Accept"]


def test_one_series_of_a_study_can_be_asked_for() -> None:
    with serving(instances=SCANS) as server, allowed(server).study(STUDY, OTHER) as folder:
        assert [file.read_bytes() for file in folder.iterdir()] == [SCANS[OTHER]]


def test_a_deflated_instance_is_not_inflated_on_the_way() -> None:
    bomb = zlib.compress(b"\0" * 50_000_000)
    with serving(instances={SERIES: bomb}) as server, allowed(server).study(STUDY) as folder:
        assert (folder / "00001.dcm").read_bytes() == bomb


def test_no_server_is_allowed_unless_a_setting_names_it() -> None:
    with serving(instances=SCANS) as server:
        host = urlsplit(server.url).netloc
        for hosts in ("", "127.0.0.1", f"x{host}", f"pacs.example.org,{host.replace('1', '2', 1)}"):
            with refused(HostNotAllowed, f"MEDGEMMA_DICOMWEB_HOSTS={host}"):
                DicomWeb(server.url, Settings(dicomweb_hosts=hosts))
        assert server.asked == []


def test_hosts_come_from_the_environment_and_are_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGEMMA_DICOMWEB_HOSTS", " PACS.example.org:8443, [::1]:80 ")
    assert load_settings().dicomweb_hosts == "pacs.example.org:8443,[::1]:80"
    DicomWeb("https://pacs.example.org:8443/dicom-web", load_settings())
    for wrong in ("https://pacs.example.org", "*", "pacs/path", "user@pacs", "pacs:x"):
        monkeypatch.setenv("MEDGEMMA_DICOMWEB_HOSTS", wrong)
        with pytest.raises(InvalidSettings, match="MEDGEMMA_DICOMWEB_HOSTS"):
            load_settings()


def test_nothing_goes_in_the_clear_to_another_machine() -> None:
    settings = Settings(dicomweb_hosts="pacs.example.org")
    with refused(HostNotAllowed, "MEDGEMMA_ALLOW_PLAIN"):
        DicomWeb("http://pacs.example.org", settings)
    DicomWeb("https://pacs.example.org", settings)
    DicomWeb("http://pacs.example.org", settings.model_copy(update={"allow_plain": True}))


@pytest.mark.parametrize(
    "url",
    ["pacs.example.org", "ftp://pacs.example.org", "https://user:hunter2@pacs.example.org",
     "https://pacs.example.org/a?b=hunter2", "https://[pacs", ""],
)  # fmt: skip
def test_a_url_that_is_none_is_refused_without_being_quoted(url: str) -> None:
    with refused(InvalidRequest) as caught:
        DicomWeb(url, Settings(dicomweb_hosts="pacs.example.org"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("uid", ["", "1.2/../../x", "1.2?x=1", "1" * 65, "*", "PatientName"])
def test_what_is_no_uid_never_becomes_a_path(uid: str) -> None:
    with serving(instances=SCANS) as server:
        for uids in ((uid,), (STUDY, uid)):
            with refused(InvalidRequest), allowed(server).study(*uids):
                pass
        assert server.asked == []


def test_a_server_that_leads_to_another_is_not_followed() -> None:
    with serving(instances=SCANS) as other, serving(instances={}, leads_to=other.url) as server:
        web = DicomWeb(server.url, Settings(dicomweb_hosts=_hosts(server, other)))
        with refused(HostNotAllowed, "leads to another"), web.study(STUDY):
            pass
        with refused(HostNotAllowed, "leads to another"):
            web.store([SCANS[SERIES]])
        assert other.asked == []


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ({}, {"most_instances": 1}),
        ({"repeats": 40}, {"most_instances": 3}),
        ({"repeats": 40}, {"most_bytes": 10_000}),
        ({"sends": PART + b"x" * 2_000_000}, {}),
        ({"packs": True}, {}),
    ],
    ids=["by its listing", "by what comes", "all bytes", "bytes of an instance", "packed"],
)
def test_a_study_over_a_limit_is_refused_and_leaves_nothing(
    said: dict[str, object], asked: dict[str, int]
) -> None:
    with serving(instances=SCANS, **said) as server:
        web = allowed(server, max_file_bytes=100_000)
        with refused(StudyTooLarge), web.study(STUDY, **asked):
            pytest.fail("it was yielded")


def test_the_folder_goes_when_whoever_reads_it_fails(temporary: Path) -> None:
    def read(server: Server) -> None:
        with allowed(server).study(STUDY):
            assert list(temporary.iterdir())
            raise KeyError

    with serving(instances=SCANS) as server, pytest.raises(KeyError):
        read(server)


def test_a_study_that_is_not_there_or_not_allowed_is_told_so() -> None:
    with serving(instances={}) as server, refused(DicomwebRefused), allowed(server).study(STUDY):
        pass
    for status in (401, 403, 404, 503):
        away = serving(instances=SCANS, status=status)
        with away as server, refused(DicomwebRefused, str(status)), allowed(server).study(STUDY):
            pass


@pytest.mark.parametrize("sends", [b"", b"no parts", b"--there\r\nContent-Type: x\r\n--there--"])
def test_an_answer_that_cannot_be_taken_apart_is_told_so(sends: bytes) -> None:
    odd = serving(instances=SCANS, sends=sends)
    with odd as server, refused(DicomwebUnreachable), allowed(server).study(STUDY):
        pytest.fail("it was yielded")


def test_a_study_of_which_less_comes_than_is_listed_is_not_yielded() -> None:
    with serving(instances=SCANS, lists=3) as server:
        web = allowed(server)
        with refused(DicomwebUnreachable, "lists 3 instances and sends 2"), web.study(STUDY):
            pytest.fail("it was yielded")


def test_a_server_that_is_away_is_named() -> None:
    with serving(instances=SCANS) as server:
        web = allowed(server)
    with refused(DicomwebUnreachable, "127.0.0.1"), web.study(STUDY):
        pass
    with refused(DicomwebUnreachable):
        web.store([SCANS[SERIES]])


def test_data_sets_files_and_bytes_are_stored_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.dcm"
    path.write_bytes(SCANS[OTHER])
    large = np.zeros((1200, 1200), np.uint8)
    dataset = pydicom.dcmread(BytesIO(dicom(7, size=large.shape)))
    del dataset.preamble
    with serving(instances={}) as server:
        assert allowed(server).store([SCANS[SERIES], path, dataset]) == 3
        assert server.stored[:2] == [SCANS[SERIES], SCANS[OTHER]]
        assert pydicom.dcmread(BytesIO(server.stored[2])).PixelData == dataset.PixelData
        assert {path for _, path, _ in server.asked} == {"/dicom-web/studies"}
    assert not hasattr(dataset, "preamble")  # it is the caller's


def test_a_result_that_was_not_stored_is_told_with_its_reason() -> None:
    said = r"result 1 \(failure reason 0122\)"
    with serving(instances={}, fails=True) as server, refused(DicomwebRefused, said):
        allowed(server).store([SCANS[SERIES]])
    for sends in (b"{}", b""):
        odd = serving(instances={}, sends=sends)
        with odd as server, refused(DicomwebRefused, "does not say"):
            allowed(server).store([SCANS[SERIES]])
    with serving(instances={}, status=409) as server, refused(DicomwebRefused, "409"):
        allowed(server).store([SCANS[SERIES]])


def test_what_is_no_dicom_file_is_not_sent(tmp_path: Path) -> None:
    with serving(instances={}) as server:
        for wrong in (b"hxcanary", tmp_path / "hxcanary.dcm", pydicom.Dataset()):
            with refused(FileUnreadable):
                allowed(server).store([wrong])
        assert server.asked == []


def _hosts(*servers: Server) -> str:
    return ",".join(urlsplit(server.url).netloc for server in servers)
