"""The report is closed to the outside, and deaf to what prompts and answers contain."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from PIL import Image

from medgemma_client.report import render_report
from medgemma_tasks.errors import InvalidRequest
from medgemma_tasks.models import Token
from tests.client.report.samples import NODULE, Page, make

NASTY = [
    "<script>alert(1)</script>",
    "</style></script><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)\' {{ 7*7 }} &amp;',
    "safe \u202eevil\u2066 \u0000 text",
    "javascript:alert(1) ]]> -->",
]


def test_the_page_asks_nothing_of_the_network() -> None:
    page = Page(render_report(*make(sizes=((200, 300), (64, 64)))))
    policy = page.all("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    rules = policy["content"] or ""
    assert rules.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; ")
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "a"}
        assert "href" not in attributes
        if "src" in attributes:
            assert (attributes["src"] or "").startswith("data:image/")


def test_the_policy_allows_the_one_script_of_the_page_and_no_other() -> None:
    page = Page(render_report(*make()))
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = page.all("meta")[1]["content"] or ""
    assert f"script-src 'sha256-{digest}';" in rules
    assert "script-src 'unsafe-inline'" not in rules


@pytest.mark.parametrize("nasty", NASTY)
def test_untrusted_text_is_shown_and_never_obeyed(nasty: str) -> None:
    plain = Page(render_report(*make(request={"notes": ("Shown: all.",)})))
    page = Page(
        render_report(
            *make(
                prompt=nasty,
                request={"notes": (nasty,)},
                answer=nasty,
                thinking=nasty,
                spans=(NODULE.model_copy(update={"text": nasty}),),
                tokens=(Token(position=1, text=nasty, role="prompt"),),
                target={"scores": (1.0,)},
            )
        )
    )
    assert len(page.scripts) == 1
    assert {name for name, _ in page.elements} <= {name for name, _ in plain.elements} | {
        "details",
        "summary",
    }
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    shown = re.sub("[\u202e\u2066\x00]", lambda mark: f"[U+{ord(mark[0]):04X}]", nasty)
    assert page.text.count(shown) >= 5


def test_marks_that_reorder_text_and_nul_are_named_not_carried() -> None:
    page = render_report(*make(prompt=NASTY[3], answer=NASTY[3], spans=()))
    assert not re.search("[\x00\u202a-\u202e\u2066-\u2069]", page)
    assert "safe [U+202E]evil[U+2066] [U+0000] text" in page


def test_a_page_can_always_be_encoded() -> None:
    record, *rest = make(spans=())
    broken = record.model_copy(update={"answer": "half \ud83d of a pair"})
    assert b"half [U+D83D] of" in render_report(broken, *rest).encode()


def test_what_does_not_belong_together_is_refused() -> None:
    record, request, images, maps = make()
    other_job = request.model_copy(update={"job_id": "f" * 32})
    with pytest.raises(InvalidRequest):
        render_report(record, other_job, images, maps)
    with pytest.raises(InvalidRequest):
        render_report(record, request, [], maps)
    with pytest.raises(InvalidRequest):
        render_report(record, request, [Image.new("L", (300, 200))], maps)
    with pytest.raises(InvalidRequest):
        render_report(record, request, images, [maps[0][:, ::-1]])
    with pytest.raises(InvalidRequest):
        render_report(record, request, images, [maps[0][:, :8]])
    with pytest.raises(InvalidRequest):
        render_report(record, request, images, maps * 2)
