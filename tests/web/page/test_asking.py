"""The way of a question on the page, with a worker that does as the prompt says."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser import Watch
from tests.service.harness import Service
from tests.stub_engine import ANSWER
from tests.web.gateway import GatewayProcess
from tests.web.page.conftest import Enter
from tests.web.page.reading import assert_only_refused, job_in, key_of, report

pytestmark = pytest.mark.usefixtures("service")

Ask = Callable[..., None]


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(
    watch: Watch, gateway: GatewayProcess
) -> None:
    watched = watch()
    page = watched.page
    page.goto(gateway.url)
    expect(page.get_by_label("API key")).to_be_focused()
    watched.assert_accessible()
    page.keyboard.type("mge_wrong")
    page.keyboard.press("Enter")
    expect(page.locator(".alert")).to_contain_text("This key is not known")
    page.keyboard.type(key_of(gateway))
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    assert page.evaluate("localStorage.length") == 0
    page.reload()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    page.get_by_role("button", name="Forget key").click()
    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()
    assert_only_refused(watched, gateway.url)


def test_a_key_in_the_address_is_taken_out_of_it_at_once(
    enter: Enter, gateway: GatewayProcess
) -> None:
    watched = enter()
    expect(watched.page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    assert watched.page.url == f"{gateway.url}/"
    assert watched.page.evaluate("history.length") == 2  # the blank page before, and this one
    assert not any("key=" in url.partition("#")[0] for url in watched.requests)


def test_the_page_runs_its_own_files_and_nothing_that_gets_into_it(enter: Enter) -> None:
    page = enter().page
    page.get_by_role("button", name="Ask", exact=True).wait_for()
    forbidden = page.evaluate(
        """() => new Promise((done) => {
            const seen = [];
            document.addEventListener("securitypolicyviolation", (event) => {
                seen.push(event.effectiveDirective);
                if (seen.length === 3) done(seen.sort());
            });
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", "<img src='x:' onerror='ran = true'>");
        })"""
    )
    assert forbidden == ["img-src", "script-src-attr", "script-src-elem"]
    assert page.evaluate("window.ran === undefined")


def test_a_question_is_watched_from_its_upload_to_its_report(
    enter: Enter, ask: Ask, gateway: GatewayProcess, service: Service
) -> None:
    watched = enter()
    page = watched.page
    ask(page, "gate and watched")
    expect(page.locator("[aria-current=step]")).to_have_text("Explaining")
    expect(page.locator("#asked")).to_contain_text("gate and watched")
    expect(page.locator("#bar")).to_have_attribute("value", "0.5")
    expect(page.get_by_role("status")).to_have_text("Its answer is traced back to image and words")
    watched.assert_accessible()
    watched.assert_fits()
    service.worker.gate.touch()
    expect(report(page).get_by_text(ANSWER).first).to_be_visible()
    service.worker.gate.unlink()
    expect(page.get_by_role("status")).to_contain_text("Done")
    watched.assert_accessible()
    watched.assert_quiet(gateway.url)


def test_after_a_reload_a_question_is_known_again_and_was_kept_in_no_storage(
    enter: Enter, ask: Ask, gateway: GatewayProcess, service: Service
) -> None:
    watched = enter()
    page = watched.page
    ask(page, "gate and a canary")
    job_in(page)
    expect(page.locator("#asked img")).to_be_visible()
    other = service.ask("sleep 60 of another")
    page.goto(f"{gateway.url}/#job={other.id}")
    expect(page.locator("#asked")).to_have_text("sleep 60 of another")
    other.cancel()
    page.go_back()
    expect(page.locator("#asked")).to_have_text("gate and a canary")
    page.reload()
    expect(page.locator("#asked")).to_have_text("gate and a canary")
    kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, history.state])")
    assert "canary" not in kept
    service.client.job(job_in(page)).cancel()
    page.get_by_role("link", name="Ask again").wait_for()
    watched.assert_quiet(gateway.url)


def test_a_question_waits_with_its_place_in_the_queue_and_can_be_cancelled(
    enter: Enter, ask: Ask, gateway: GatewayProcess, service: Service
) -> None:
    watched, before = enter(), service.ask("sleep 60 before it")
    page = watched.page
    service.running(before)
    ask(page, "sleep 60 cancelled")
    expect(page.locator("[aria-current=step]")).to_have_text("Waiting")
    expect(page.locator("#stage")).to_contain_text("queue")
    job_in(page)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".alert")).to_contain_text("Cancelled")
    before.cancel()
    page.get_by_role("link", name="Ask again").click()
    expect(page.get_by_role("textbox", name="Question")).to_have_value("sleep 60 cancelled")
    watched.assert_quiet(gateway.url)


def test_several_files_and_a_zip_go_out_as_they_are(
    enter: Enter, gateway: GatewayProcess, image: Path, tmp_path: Path
) -> None:
    watched = enter()
    page = watched.page
    other = tmp_path / "other.tiff"
    Image.new("L", (40, 40), 90).save(other)
    every = page.get_by_role("checkbox", name="Every word")
    expect(every).to_be_checked()
    page.locator("#files").set_input_files([image, other])
    expect(every).not_to_be_checked()
    page.get_by_role("textbox", name="Question").fill("What has changed?")
    page.get_by_role("button", name="Ask", exact=True).click()
    report(page).locator("img").nth(1).wait_for(state="attached")
    page.get_by_role("link", name="New question").click()
    page.get_by_role("button", name="Remove chest.png").click()
    page.get_by_role("button", name="Remove other.tiff").click()
    expect(page.locator("#files")).to_be_focused()
    packed = tmp_path / "study.zip"
    for letters in (1, 2):
        with zipfile.ZipFile(packed, "w") as file:
            file.write(image, "study/1.png")
            for number in range(letters):
                file.writestr(f"study/letter-{number}.txt", "no image")
        page.locator("#files").set_input_files(packed)
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(report(page).get_by_text(ANSWER).first).to_be_visible()
        expect(report(page).get_by_text("Left out: 1 file: no image.")).to_be_visible()
        if letters == 1:  # the report says it
            expect(page.locator("#notes")).to_be_hidden()
            page.get_by_role("link", name="New question").click()
            page.get_by_role("button", name="Remove study.zip").click()
    # The same question about the same image, which was asked of another study first.
    expect(page.locator("#notes li").last).to_have_text("Left out: 2 files: no image.")
    page.reload()
    report(page)
    expect(page.locator("#notes")).to_contain_text("Shown: 1 image without DICOM")
    page.get_by_role("link", name="New question").click()
    expect(page.locator("#notes")).to_be_hidden()
    watched.assert_quiet(gateway.url)


def test_a_file_can_be_dropped_anywhere(enter: Enter) -> None:
    page = enter().page
    page.get_by_role("button", name="Ask", exact=True).wait_for()
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(9)], "slice.dcm"));
            for (const kind of ["dragenter", "dragover", "drop"]) {
                const way = { dataTransfer: data, bubbles: true, cancelable: true };
                document.body.dispatchEvent(new DragEvent(kind, way));
            }
        }"""
    )
    expect(page.locator("#chosen")).to_contain_text("slice.dcm")
    expect(page.get_by_role("status")).to_have_text("1 file chosen")


def test_recent_questions_are_shown_again_and_forgotten_for_good(
    enter: Enter, ask: Ask, gateway: GatewayProcess
) -> None:
    watched = enter()
    page = watched.page
    ask(page, "a canary of the prompt")
    report(page)
    job = job_in(page)
    page.get_by_role("link", name="New question").click()
    card = page.locator("#jobs li")
    expect(card).to_contain_text(ANSWER)
    expect(card).to_contain_text("a canary of the prompt")
    expect(card.locator("img")).to_be_visible()
    kept = page.evaluate("JSON.stringify(localStorage)")
    assert [set(one) for one in json.loads(json.loads(kept)["medgemma.jobs"])] == [{"id", "at"}]
    assert "canary" not in kept
    card.get_by_role("link").click()
    expect(report(page).get_by_text(ANSWER).first).to_be_visible()
    page.evaluate("history.back()")
    card.get_by_role("button", name="Forget the question").click()
    expect(page.locator("#recent")).to_be_hidden()
    assert page.evaluate("localStorage.length") == 0
    page.goto(f"{gateway.url}/#job={job}")  # it is still there for who has its address
    report(page)
    watched.assert_quiet(gateway.url)


def test_the_report_opens_on_its_own_and_is_downloaded_whole(
    enter: Enter, ask: Ask, gateway: GatewayProcess
) -> None:
    watched = enter()
    page = watched.page
    ask(page, "taken home")
    report(page)
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download").click()
    assert downloading.value.suggested_filename == f"report-{job_in(page)[:8]}.html"
    assert downloading.value.path().read_text().startswith("<!doctype html>")
    with page.context.expect_page() as opening:
        page.get_by_role("link", name="Open on its own").click()
    alone = opening.value
    expect(alone.get_by_text(ANSWER).first).to_be_visible()
    expect(alone.locator("#tools")).to_be_visible()  # its script runs
    expect(alone.get_by_role("heading", name="Relevancy report")).to_be_visible()
    watched.assert_quiet(gateway.url)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_for_phones_and_for_everyone(
    scheme: str, enter: Enter, ask: Ask, gateway: GatewayProcess
) -> None:
    watched = enter(width=390, height=844, color_scheme=scheme, reduced_motion="reduce")
    page = watched.page
    page.get_by_role("button", name="Ask", exact=True).wait_for()
    watched.assert_accessible()
    ask(page, f"on a phone, {scheme}", keyword="zebra")
    page.get_by_role("link", name="Ask again").wait_for()
    watched.assert_accessible()
    watched.assert_fits()
    page.get_by_role("link", name="Ask again").click()
    failed = page.locator("#jobs").get_by_text("Failed")
    failed.wait_for()
    assert failed.evaluate("text => text.clientWidth") > 200  # it has the picture's place too
    watched.assert_accessible()
    watched.assert_fits()
    page.get_by_role("textbox", name="Word of the answer").fill("")
    page.get_by_role("button", name="Ask", exact=True).click()
    report(page)
    watched.assert_fits()
    watched.assert_quiet(gateway.url)
