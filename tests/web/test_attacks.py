"""Uploads that are too large, too slow or too many: each is told so, and costs no memory."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from medgemma_tasks.settings import Settings
from tests.web.gateway import GatewayProcess, answer, status_of

FORM = "Content-Type: multipart/form-data; boundary=b"
PART = '--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
ASKS = '--b\r\nContent-Disposition: form-data; name="request"\r\n\r\n{"prompt": "Large?"}\r\n'
HALF_OPEN = 1000
FLAT = 60_000_000
"""Bytes by which the memory of the gateway may grow."""


@pytest.fixture(scope="module")
def hasty(servers: Settings, folder: Path) -> Iterator[GatewayProcess]:
    """A gateway with little patience."""
    # Of these the large uploads, all four at once, take a part on a busy machine.
    limits = {"idle_timeout": 2, "upload_timeout": 6, "head_timeout": 1, "uploads_at_once": 4}
    much = {"max_upload_bytes": 50_000_000, "requests_per_minute": 100_000}
    with GatewayProcess(folder, **much, **limits) as gateway:
        with gateway.connection(gateway.post(FORM, "Content-Length: 0")) as connection:
            answer(connection)  # so that all of it is loaded
        yield gateway


@pytest.fixture(autouse=True)
def _memory_stays_flat(hasty: GatewayProcess) -> Iterator[None]:
    before = hasty.memory()
    yield
    assert hasty.memory() - before < FLAT


def test_ten_gigabytes_by_their_length_are_refused_unread(hasty: GatewayProcess) -> None:
    with hasty.connection(hasty.post(FORM, f"Content-Length: {10 * 2**30}")) as connection:
        assert status_of(answer(connection)) == 413


def test_whoever_asks_first_need_not_send_them(hasty: GatewayProcess) -> None:
    head = hasty.post(FORM, f"Content-Length: {10 * 2**30}", "Expect: 100-continue")
    with hasty.connection(head) as connection:
        said = answer(connection)
    assert status_of(said) == 413
    assert b"100 Continue" not in said


def test_ten_gigabytes_in_chunks_are_refused_once_they_are_too_many(hasty: GatewayProcess) -> None:
    piece = bytes(2**20)
    chunk = b"%x\r\n%s\r\n" % (len(piece), piece)
    sent = 0
    with hasty.connection(hasty.post(FORM, "Transfer-Encoding: chunked")) as connection:
        connection.sendall(b"%x\r\n%s\r\n" % (len(PART), PART.encode()))
        try:
            for _ in range(10 * 2**10):
                connection.sendall(chunk)
                sent += len(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert status_of(answer(connection)) == 413
    assert sent < 100_000_000


def test_a_body_that_stops_is_given_up(hasty: GatewayProcess) -> None:
    with hasty.connection(hasty.post(FORM, "Content-Length: 1000") + "--b") as connection:
        assert status_of(answer(connection)) == 408


def test_a_body_that_drips_is_given_up_too(hasty: GatewayProcess) -> None:
    with hasty.connection(hasty.post(FORM, "Content-Length: 9999") + PART) as connection:
        dripping = threading.Thread(target=drip, args=(connection,))
        dripping.start()
        assert status_of(answer(connection)) == 408
        dripping.join()


def test_a_head_that_drips_is_given_up(hasty: GatewayProcess) -> None:
    with hasty.connection("GET /healthz HTTP/1.1\r\nX-Slow: ") as connection:
        dripping = threading.Thread(target=drip, args=(connection,))
        dripping.start()
        said = answer(connection)
        dripping.join()
    assert status_of(said) == 408
    assert b"application/problem+json" in said


def test_a_connection_over_which_nothing_comes_is_closed(hasty: GatewayProcess) -> None:
    with hasty.connection() as connection:
        assert status_of(answer(connection)) == 408


def test_a_head_without_end_is_refused(hasty: GatewayProcess) -> None:
    with hasty.connection("GET /healthz HTTP/1.1\r\n") as connection:
        try:
            for number in range(4000):
                connection.sendall(b"X-Header-%d: %s\r\n" % (number, b"x" * 100))
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert status_of(answer(connection)) == 431


def test_what_is_no_http_is_a_problem(hasty: GatewayProcess) -> None:
    with hasty.connection("\x16\x03\x01 hello\r\n\r\n") as connection:
        said = answer(connection)
    assert status_of(said) == 400
    assert b"malformed_request" in said


def test_a_thousand_half_open_uploads_are_refused_and_others_still_served(
    hasty: GatewayProcess,
) -> None:
    head = hasty.post(FORM, "Content-Length: 1000").encode()
    with ExitStack() as stack, hasty.client() as other:
        halves = [
            stack.enter_context(socket.create_connection(("127.0.0.1", hasty.port), timeout=60))
            for _ in range(HALF_OPEN)
        ]
        for half in halves:
            half.sendall(head)
        assert other.get("/healthz").status_code == 200
        told = [status_of(answer(half)) for half in halves]
        assert set(told) == {408, 503}
        assert told.count(408) >= 4
        assert other.get("/v1/models", headers=hasty.ours).status_code == 200


def test_a_wrong_key_is_told_before_a_body_is_read(hasty: GatewayProcess) -> None:
    wrong = {"Authorization": "Bearer mge_wrong"}
    head = hasty.post(FORM, f"Content-Length: {10 * 2**30}", header=wrong)
    with hasty.connection(head) as connection:
        assert status_of(answer(connection)) == 401


def drip(connection: socket.socket) -> None:
    """A byte now and then, until nobody listens."""
    try:
        while True:
            connection.sendall(b"x")
            time.sleep(0.2)
    except OSError:
        pass


def test_large_uploads_at_the_same_time_are_read_one_after_the_other(hasty: GatewayProcess) -> None:
    size, before = 40_000_000, hasty.most_memory()
    body = (ASKS + PART).encode() + bytes(size) + b"\r\n--b--"
    start = threading.Barrier(4)
    told: list[int] = []

    def upload() -> None:
        with hasty.connection(hasty.post(FORM, f"Content-Length: {len(body)}")) as connection:
            connection.sendall(body[:-1])
            start.wait(60)
            connection.sendall(body[-1:])
            told.append(status_of(answer(connection)))

    uploads = [threading.Thread(target=upload) for _ in range(4)]
    for one in uploads:
        one.start()
    for one in uploads:
        one.join()
    assert told == [422] * 4
    assert hasty.most_memory() - before < 2 * size
