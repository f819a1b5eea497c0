"""What the page says, and does, where something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from medgemma_tasks.models import ErrorRecord, State
from medgemma_tasks.settings import Settings
from tests.browser import Watch
from tests.parts import record_of
from tests.service.harness import Service, until
from tests.web.gateway import GatewayProcess
from tests.web.page.conftest import Enter
from tests.web.page.reading import assert_only_refused, job_in, key_of, report, trouble

Ask = Callable[..., None]
LARGE = 30_000


@pytest.fixture(scope="module")
def strict(servers: Settings, service: Service, folder: Path) -> Iterator[GatewayProcess]:
    """A gateway whose queue has no room, and that takes small uploads alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGEMMA_MAX_QUEUED", "1")
        with GatewayProcess(folder, max_upload_bytes=LARGE) as gateway:
            yield gateway


@pytest.mark.usefixtures("service")
def test_a_file_that_is_no_image_is_refused_and_the_question_stays(
    enter: Enter, ask: Ask, gateway: GatewayProcess, tmp_path: Path
) -> None:
    watched = enter()
    notes = tmp_path / "notes.png"
    notes.write_text("no image")
    ask(watched.page, "Is there a finding?", file=notes)
    said = trouble(watched.page)
    assert "That file is not an image" in said
    assert "not_an_image" in said
    expect(watched.page.get_by_role("textbox", name="Question")).to_have_value(
        "Is there a finding?"
    )
    watched.assert_accessible()
    assert_only_refused(watched, gateway.url)


def test_nothing_is_sent_without_an_image(enter: Enter, gateway: GatewayProcess) -> None:
    watched = enter()
    watched.page.get_by_role("textbox", name="Question").fill("Of what?")
    watched.page.keyboard.press("Control+Enter")
    assert trouble(watched.page) == "Choose an image first."
    watched.assert_quiet(gateway.url)


@pytest.mark.usefixtures("service")
def test_of_several_files_the_one_that_is_refused_is_marked(
    enter: Enter, gateway: GatewayProcess, image: Path, tmp_path: Path
) -> None:
    watched = enter()
    page = watched.page
    notes = tmp_path / "notes.png"
    notes.write_text("no image")
    page.locator("#files").set_input_files([image, notes])
    page.get_by_role("textbox", name="Question").fill("Which one?")
    page.get_by_role("button", name="Ask", exact=True).click()
    assert "Image 2 of 2: " in trouble(page)
    marked = page.locator("#chosen li", has_text="Cannot be used")
    expect(marked).to_have_count(1)
    expect(marked).to_contain_text("notes.png")
    watched.assert_accessible()
    page.get_by_role("button", name="Remove notes.png").click()
    expect(page.locator(".alert")).to_have_count(0)
    expect(marked).to_have_count(0)
    study = tmp_path / "study.zip"
    study.write_bytes(b"PK")
    page.locator("#files").set_input_files(study)
    assert trouble(page) == "A zip of a study goes alone, without other files."
    assert_only_refused(watched, gateway.url)


def test_what_is_too_large_is_not_sent_and_a_full_queue_is_told(
    watch: Watch, ask: Ask, strict: GatewayProcess, service: Service, tmp_path: Path
) -> None:
    watched = watch()
    page = watched.page
    page.goto(f"{strict.url}/#key={key_of(strict)}")
    noise = tmp_path / "noise.png"
    Image.effect_noise((300, 300), 90).save(noise)
    assert noise.stat().st_size > LARGE
    ask(page, "of a large one", file=noise)
    assert "noise.png has" in trouble(page)
    assert "takes files of 30 kB at most" in trouble(page)
    watched.assert_accessible()
    assert not any(url.endswith("/v1/explanations") for url in watched.requests)
    watched.assert_quiet(strict.url)
    jobs = [service.ask(f"sleep 60 number {number}") for number in range(6)]
    page.get_by_role("button", name="Remove noise.png").click()
    ask(page, "one too many")
    expect(page.locator(".alert")).to_contain_text("The queue is full")
    for job in jobs:
        job.cancel()
    assert_only_refused(watched, strict.url)


def test_a_service_without_a_worker_says_so_before_a_question_is_written(
    watch: Watch, stack_settings: Settings, folder: Path
) -> None:
    with GatewayProcess(folder) as gateway:
        watched = watch()
        watched.page.goto(f"{gateway.url}/#key={key_of(gateway)}")
        assert "No worker serves this model" in trouble(watched.page)
        watched.assert_quiet(gateway.url)


def test_a_job_that_was_set_aside_says_what_to_do(
    enter: Enter, gateway: GatewayProcess, service: Service
) -> None:
    job = service.ask("hang 60")
    error = ErrorRecord(code="worker_lost", message="Each of 3 attempts ended with its process.")
    dead = record_of(job.id, State.FAILED, attempt=3).model_copy(update={"error": error})
    service.ledger.commit(dead)
    service.live.cancel(job.id)
    watched = enter(job.id)
    said = trouble(watched.page)
    assert "Each of 3 attempts ended with its process." in said
    assert "medgemma-explainer dead" in said
    watched.assert_accessible()
    watched.assert_quiet(gateway.url)


def test_a_reports_address_leads_to_the_page_where_there_is_no_report_to_open(
    watch: Watch, gateway: GatewayProcess, service: Service
) -> None:
    job = service.ask("hang 60")
    job.cancel()
    watched = watch()
    page = watched.page
    page.goto(f"{gateway.url}/v1/explanations/{job.id}/report")
    expect(page.get_by_role("heading", level=1)).to_contain_text("no report")
    watched.assert_accessible()
    page.get_by_role("link").click()
    page.get_by_label("API key").fill(key_of(gateway))
    page.get_by_role("button", name="Use this key").click()
    assert "Cancelled" in trouble(page)
    expect(page.locator("#asked")).to_have_text("hang 60")
    assert_only_refused(watched, gateway.url)


def test_a_job_of_nobody_is_said_to_be_unknown(enter: Enter, gateway: GatewayProcess) -> None:
    watched = enter("0" * 32)
    assert "There is no such job" in trouble(watched.page)
    assert watched.page.evaluate("localStorage.length") == 0
    assert_only_refused(watched, gateway.url)


def test_where_no_stream_comes_through_the_job_is_asked_about(
    enter: Enter, ask: Ask, gateway: GatewayProcess, service: Service
) -> None:
    watched = enter()
    page = watched.page
    page.route("**/events", lambda route: route.abort())
    ask(page, "gate without a stream")
    job = job_in(page)
    page.wait_for_event("response", lambda answer: answer.url.endswith(job))
    service.worker.gate.touch()
    report(page)
    service.worker.gate.unlink()
    looks = [url for url in watched.requests if url.endswith(job)]
    assert len(looks) >= 2


def test_a_job_can_be_cancelled_before_anything_is_heard_of_it(
    enter: Enter, ask: Ask, service: Service
) -> None:
    page = enter().page
    page.route("**/events", lambda route: None)
    ask(page, "sleep 60 unheard")
    job = service.client.job(job_in(page))
    page.get_by_role("button", name="Cancel").click()
    until(lambda: job.status().state is State.CANCELLED, 30)


def test_a_gateway_that_goes_away_is_waited_for(
    watch: Watch, ask: Ask, service: Service, folder: Path
) -> None:
    with GatewayProcess(folder) as gateway:
        watched = watch()
        page = watched.page
        page.goto(f"{gateway.url}/#key={key_of(gateway)}")
        ask(page, "gate away")
        expect(page.locator("[aria-current=step]")).to_have_text("Explaining")
        gateway.kill()
        assert "The gateway does not answer" in trouble(page)
        service.worker.gate.touch()
        with gateway:
            report(page)
        service.worker.gate.unlink()
        expect(page.locator(".alert")).to_have_count(0)
