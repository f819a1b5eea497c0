"""What doctor says of a store: moto's, which knows conditions and policies, and rclone's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import boto3
import pytest

from medgemma_cli.doctor.finding import Level, examine
from medgemma_cli.doctor.show import show
from medgemma_cli.doctor.storage import Storage
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.cli.doctor.told import findings, levels
from tests.deploy.test_s3_policies import session_of
from tests.faults.s3_proxy import Match, S3Proxy

__all__ = ["session_of"]


def test_of_a_store_as_it_should_be_all_is_well_and_nothing_is_left_there(
    store: Store, settings: Settings
) -> None:
    assert set(levels(Storage(settings, store).part()).values()) == {Level.OK}
    assert store.keys("") == []


def test_a_real_server_without_conditional_puts_is_warned_of(stack_settings: Settings) -> None:
    found = levels(Storage(stack_settings).part())
    assert found.pop("conditional puts") is Level.WARNING
    assert set(found.values()) == {Level.OK}
    assert Store(stack_settings).keys("") == []


@pytest.mark.parametrize("user", ["client", "worker"])
def test_the_policies_let_it_look(
    session_of: Callable[[str], boto3.session.Session], settings: Settings, user: str
) -> None:
    store = Store(settings)
    store.__dict__["_session"] = session_of(user)
    assert set(levels(Storage(settings, store).part()).values()) == {Level.OK}


@pytest.fixture
def proxy(stack_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Between the environment's settings and the real server, which knows no policies."""
    port = urlsplit(stack_settings.s3_endpoint_url or "").port
    assert port is not None
    with S3Proxy(port) as proxy:
        monkeypatch.setenv("MEDGEMMA_S3_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        yield proxy


@pytest.mark.parametrize(
    ("word", "forbidden"),
    [
        ("write", lambda method, path: method == "PUT"),
        ("read", lambda method, path: method == "GET" and "/probe/" in path),
        ("list", lambda method, path: method == "GET" and "/probe/" not in path),
        ("delete", lambda method, path: method == "DELETE"),
    ],
)
def test_what_is_refused_is_named(
    proxy: S3Proxy, stack_settings: Settings, word: str, forbidden: Match
) -> None:
    proxy.forbid(forbidden)
    found = Storage(Settings()).objects()
    assert found.level is Level.FAILED
    assert f"does not let us {word} below local/probe/ (HTTP 403)" in found.found
    assert "deploy/s3" in found.advice
    assert (Store(stack_settings).keys("") == []) == (word != "delete")


def test_of_a_store_that_may_only_be_read_each_line_says_what_is_the_matter(
    proxy: S3Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.forbid(lambda method, path: method == "PUT")
    show(examine(Storage(Settings()).part()))
    assert capsys.readouterr().out.splitlines()[1:-1] == [
        "FAILED  store, objects: The store does not let us write below local/probe/ (HTTP 403).",
        "        -> Give these credentials a policy of deploy/s3; docs/security.md: who needs "
        "what.",
        "-       store, conditional puts: See store, objects.",
        "-       store, clock: See store, objects.",
    ]


class AnHourBehind(BaseHTTPRequestHandler):
    """As S3 answers whose clock and ours are an hour apart."""

    def do_GET(self) -> None:
        body = (
            b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request "
            b"time and the current time is too large.</Message></Error>"
        )
        self.send_response(HTTPStatus.FORBIDDEN)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() - 3600)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def skewed() -> Iterator[str]:
    """The address of such a store."""
    with ThreadingHTTPServer(("127.0.0.1", 0), AnHourBehind) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_store_that_refuses_our_clock_is_told_as_that(
    skewed: str,
    stack_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MEDGEMMA_S3_ENDPOINT_URL", f"http://{skewed}")
    show(examine(Storage(Settings()).part()))
    assert capsys.readouterr().out.splitlines()[:-1] == [
        f"FAILED  store, connection: The store at http://{skewed} bucket medgemma says that our "
        "clock is wrong.",
        "        -> Let both machines follow a time server (NTP): signatures, links to results and "
        "deadlines have a time.",
        "-       store, objects: See store, connection.",
        "-       store, conditional puts: See store, connection.",
        "-       store, clock: See store, connection.",
    ]


def test_a_store_that_gives_other_bytes_back_is_found(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "get", lambda key: b"other")
    assert "read back as something else" in Storage(settings, store).objects().found
    assert store.keys("") == []


@pytest.mark.parametrize(("seconds", "word"), [(60, "behind"), (-60, "ahead of")])
def test_clocks_that_differ_are_a_fault(
    store: Store, settings: Settings, seconds: float, word: str
) -> None:
    found = findings(Storage(settings, store, now=lambda: time.time() + seconds).part())["clock"]
    assert found.level is Level.FAILED
    assert word in found.found
    assert "NTP" in found.advice


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "canary"}, "SignatureDoesNotMatch"),
        ({"MEDGEMMA_STORE_URL": "s3://no-such-bucket"}, "no such bucket"),
        ({"MEDGEMMA_S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no AWS credentials"),
    ],
)
def test_a_store_that_does_not_let_us_in_is_told_by_its_reason(
    stack_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    words: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = findings(Storage(Settings(connect_timeout=0.5)).part())
    assert found["connection"].level is Level.FAILED
    assert words in found["connection"].found
    assert "canary" not in str(found)
