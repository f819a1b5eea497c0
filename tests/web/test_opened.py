"""A report's address, opened in a browser where there is no report."""

from __future__ import annotations

from html import escape

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_web.opened import wants_page
from tests.service.harness import Service
from tests.web.asking import ask, ended

CHROMIUM = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;"
    "q=0.8,application/signed-exchange;v=b3;q=0.7"
)
Header = dict[str, str]


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (CHROMIUM, True),
        ("text/html", True),
        ("Text/HTML ; charset=utf-8 ; q=0.5, application/json;q=0.4", True),
        ("*/*", False),
        ("", False),
        ("text/*", False),
        ("text/html;q=0", False),
        ("text/html;q=nan", False),
        ("application/problem+json, text/html", False),
        ("text/html;q=0.5, application/json", False),
    ],
)
def test_a_page_is_for_who_asks_for_html_rather_than_json(accept: str, page: bool) -> None:
    assert wants_page(accept) is page


@given(st.text(alphabet="texhml/*q=;,. 01", max_size=60))
def test_whatever_is_asked_for_is_read(accept: str) -> None:
    assert wants_page(accept) in (True, False)


def test_a_job_that_failed_says_so_as_a_page_to_a_person_and_as_json_to_a_program(
    api: httpx.Client, ours: Header, service: Service
) -> None:
    where = ask(api, ours, "What?", keyword="<i>absent</i>").headers["Location"]
    message = ended(api, ours, where)["error"]["message"]
    shown = api.get(f"{where}/report", headers={**ours, "Accept": CHROMIUM})
    assert (shown.status_code, shown.headers["content-type"]) == (409, "text/html; charset=utf-8")
    assert escape(message) in shown.text
    assert "<i>absent" not in shown.text
    job = where.rpartition("/")[2]
    assert f'href="../../../#job={job}"' in shown.text
    assert shown.headers["content-security-policy"].startswith("default-src 'none'")
    for accept in ("*/*", "application/problem+json, text/html"):
        told = api.get(f"{where}/report", headers={**ours, "Accept": accept})
        assert (told.status_code, told.json()["detail"]) == (409, message)
        assert told.headers["content-type"] == "application/problem+json"


def test_without_a_key_a_person_is_led_to_the_page_that_asks_for_it(api: httpx.Client) -> None:
    job = "0" * 32
    shown = api.get(f"/v1/explanations/{job}/report", headers={"Accept": CHROMIUM})
    assert (shown.status_code, shown.headers["www-authenticate"]) == (401, "Bearer")
    assert f'href="../../../#job={job}"' in shown.text


def test_an_id_that_none_could_have_is_in_no_page(api: httpx.Client) -> None:
    shown = api.get("/v1/explanations/%22%3Ecanary/report", headers={"Accept": CHROMIUM})
    assert (shown.status_code, "canary" in shown.text) == (404, False)
    assert 'href="../../../"' in shown.text


def test_what_only_programs_ask_for_is_json_whoever_asks(api: httpx.Client, ours: Header) -> None:
    for place in (f"/v1/explanations/{'0' * 32}/result", "/nowhere"):
        told = api.get(place, headers={**ours, "Accept": CHROMIUM})
        assert told.headers["content-type"] == "application/problem+json"
