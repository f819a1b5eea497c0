"""What notebooks show: the answer under our own escaping, pictures within, and no surprise."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from medgemma_client.card import EDGE, status_card, study_card
from medgemma_client.client import Client
from medgemma_client.job import Job
from medgemma_client.result import Result
from medgemma_client.study import Study
from medgemma_tasks.errors import BrokerUnreachable, StoreUnreachable
from medgemma_tasks.layout import job_prefix
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.models import Live, Stage
from medgemma_tasks.pictures import NOTICE
from tests.parts import OTHER_JOB, picture
from tests.stub_engine import ANSWER

LARGEST = 400_000
"""Characters: a notebook is saved with its cards."""

Run = Callable[[Job], None]


class Page(HTMLParser):
    """The text of a card, what is marked in it, and what it would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.marked, self.tags = "", list[str](), list[str]()
        self._within = ""
        self.fetched: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._within = tag
        if tag == "mark":
            self.marked.append("")
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "mark":
            self.marked[-1] += data
        if self._within != "style":
            self.text += data


@pytest.fixture
def result(client: Client, run: Run) -> Result:
    noise = np.random.default_rng(1).integers(0, 256, (1800, 1200), dtype=np.uint8)
    job = client.submit([picture(), Image.fromarray(noise)], "What?")
    run(job)
    return job.result()


def altered(result: Result, ledger: Ledger, **fields: object) -> Result:
    return Result(result.record.model_copy(update=fields), ledger)


def test_a_result_shows_its_answer_with_what_was_explained_and_one_picture(
    result: Result, ledger: Ledger
) -> None:
    word = {"kind": "keyword", "text": "pneumothorax", "char_start": 27, "char_end": 39}
    target = result.targets[0]
    named = target.model_copy(update={"span": target.span.model_copy(update=word)})
    html = altered(result, ledger, targets=(named,))._repr_html_()
    page = Page(html)
    assert ANSWER in page.text
    assert page.marked == ["pneumothorax"]
    assert "Explained: “pneumothorax”." in page.text
    assert NOTICE in page.text
    assert "images" in page.text
    (uri,) = page.fetched
    kind, _, content = uri.partition(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(content))) as shown:
        assert max(shown.size) <= 2 * EDGE
    assert len(html) < LARGEST
    assert not re.search(r"https?:|<script|<link|@import|url\(", html)


def test_a_card_of_a_large_noisy_image_is_small(client: Client, run: Run) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1800, 1200, 3), dtype=np.uint8)
    job = client.submit(Image.fromarray(noise), "What?")
    run(job)
    assert len(job.result()._repr_html_()) < LARGEST


def test_an_answer_cannot_become_markup_or_hide(result: Result, ledger: Ledger) -> None:
    answer = "<img src=x onerror=alert(1)> </div> \u202eesrever {{ 7 * 7 }} & \x00"
    page = Page(altered(result, ledger, answer=answer, targets=())._repr_html_())
    assert "<img src=x onerror=alert(1)> </div>" in page.text
    assert "[U+202E]" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "img" not in page.tags


def test_a_long_answer_is_cut_and_a_result_without_any_says_so(
    result: Result, ledger: Ledger
) -> None:
    page = Page(altered(result, ledger, answer="word " * 100_000, targets=())._repr_html_())
    assert len(page.text) < 10_000
    assert "…" in page.text
    assert "No answer." in Page(altered(result, ledger, answer="", targets=())._repr_html_()).text


def test_a_picture_that_cannot_be_fetched_does_not_hide_the_answer(
    result: Result, ledger: Ledger
) -> None:
    prefix = job_prefix("local", result.job_id)
    ledger.store.delete(prefix + result.record.artifacts["relevancy.npz"].key)
    page = Page(result._repr_html_())
    assert ANSWER in page.text
    assert "artifact_damaged" in page.text
    assert page.fetched == []


def test_what_goes_into_logs_has_no_answer(result: Result) -> None:
    assert ANSWER not in f"{result!r} {result}"


def test_a_job_shows_where_it_stands(
    client: Client, live: LiveState, ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.submit(picture(), "What is it?", keyword="absent")
    assert "submitted" in job._repr_html_()
    live.report(job.id, Live(stage=Stage.EXPLAINING, progress=0.5, attempt=1))
    assert "explaining, 72%" in job._repr_html_()
    run(job)
    text = Page(job._repr_html_()).text
    assert "failed (keyword_not_in_answer)" in text
    assert "What is it?" not in text
    assert ANSWER not in text
    assert "job_not_found" in Job(OTHER_JOB, ledger, live)._repr_html_()

    def away(*args: object) -> None:
        raise StoreUnreachable("away")

    monkeypatch.setattr(Ledger, "record", away)
    assert "not known (store_unreachable)" in job._repr_html_()
    assert BrokerUnreachable.code in status_card(OTHER_JOB, None, BrokerUnreachable.code)


def test_a_study_shows_what_was_chosen_and_what_left_out() -> None:
    study = Study(kind="volume", modality="CT", images=(), notes=("Left out: 1 <localizer>.",))
    page = Page(study_card(study))
    assert "CT" in page.text
    assert "Left out: 1 <localizer>." in page.text
