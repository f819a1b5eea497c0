"""Bodies of questions that are none, or more than one question has: each is told so, at once."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.service.harness import Service
from tests.web.asking import png
from tests.web.gateway import GatewayProcess

Header = dict[str, str]

FORM = "multipart/form-data; boundary=b"
LAST = b"--b--"
VALUES = 10_000_000
FLAT = 150_000_000
"""Bytes by which the memory of the gateway may grow, of which a body and a copy are most."""


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    also = "" if filename is None else f'; filename="{filename}"'
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{also}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def question(prompt: str = "Whole?") -> bytes:
    return part("request", json.dumps({"prompt": prompt}).encode())


IMAGE = part("images", png(), "x.png")


def sent(api: httpx.Client, header: Header, body: bytes, kind: str = FORM) -> tuple[int, str]:
    answer = api.post("/v1/explanations", headers={**header, "Content-Type": kind}, content=body)
    assert len(answer.content) < 4000
    return answer.status_code, answer.json().get("code")


@pytest.mark.parametrize("charset", ["undefined", "punycode", "utf-16", "latin-1"])
def test_a_form_of_another_charset_is_refused(
    charset: str, api: httpx.Client, ours: Header
) -> None:
    whole = question() + IMAGE + LAST
    assert sent(api, ours, whole, f"{FORM}; charset={charset}") == (400, "upload_malformed")


def test_utf_8_may_be_named(api: httpx.Client, ours: Header, service: Service) -> None:
    assert sent(api, ours, question() + IMAGE + LAST, f"{FORM}; charset=UTF-8")[0] == 202


@pytest.mark.parametrize(
    "body",
    [
        question() + IMAGE,
        question() + IMAGE + part("images", png(), "y.png").rstrip(b"\r\n"),
        question() + question("Another?") + IMAGE + LAST,
        question() + part("prior", png(), "y.png") + IMAGE + LAST,
        part("request", b'{"prompt": "\xff"}') + IMAGE + LAST,
        part("request", b" " * (8 * 2**20 + 1), "request.json") + IMAGE + LAST,
    ],
    ids=[
        "no end",
        "an end within an image",
        "two questions",
        "an unknown part",
        "no UTF-8",
        "too long a question",
    ],
)
def test_no_question_is_guessed_from_a_form_that_is_none(
    body: bytes, api: httpx.Client, ours: Header, service: Service
) -> None:
    assert sent(api, ours, body) == (400, "upload_malformed")


@pytest.mark.parametrize(
    "body",
    [
        b'{"images": ["x"], "prompt": [' + b"0," * VALUES + b"0]}",
        b'{"prompt": "x", "images": [' + b'"",' * VALUES + b'""]}',
        b'{"prompt": "x", "images": ["x"], ' + b'"a":0,' * VALUES + b'"a":0}',
        b'{"images": ["x"], "prompt": [' + b"null," * 20_000 + b"0]}",
    ],
    ids=["numbers", "images", "names", "faults"],
)
def test_millions_of_values_are_refused_and_need_no_memory(
    body: bytes, api: httpx.Client, ours: Header, gateway: GatewayProcess
) -> None:
    before = gateway.most_memory()
    assert sent(api, ours, body, "application/json") == (422, "invalid_request")
    assert gateway.most_memory() - before < FLAT
