"""The command line: how it fails, and what machines read."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from medgemma_cli import main
from medgemma_tasks.errors import JobNotFound
from medgemma_tasks.ledger import Ledger
from medgemma_tasks.live import LiveState
from medgemma_tasks.settings import Settings
from medgemma_tasks.store import Store
from tests.stub_engine import StubEngine


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medgemma_cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def test_help_names_every_command() -> None:
    shown = run("--help").stdout
    mine = ("demo", "worker", "submit", "status", "fetch", "cancel")
    for command in (*mine, "queue", "reconcile", "dead", "requeue", "sweep"):
        assert command in shown


def test_help_imports_no_torch() -> None:
    probe = "import sys, medgemma_cli.main; print('torch' in sys.modules, 'celery' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("command", ["status", "fetch", "cancel"])
def test_an_unknown_job_is_not_found_and_never_pending(
    command: str, stack_settings: Settings
) -> None:
    done = run(command, "0" * 32, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "job_not_found"


def test_an_id_that_is_none_is_refused_before_it_becomes_a_key(stack_settings: Settings) -> None:
    done = run("status", "../../etc/passwd")
    assert done.returncode == 1
    assert "[invalid_request]" in done.stderr
    assert "passwd" not in done.stderr


def test_an_unreachable_store_is_told_by_its_address_without_credentials() -> None:
    done = run(
        "status",
        "0" * 32,
        MEDGEMMA_S3_ENDPOINT_URL="http://user:hunter2@127.0.0.1:9",
        AWS_ACCESS_KEY_ID="a",
        AWS_SECRET_ACCESS_KEY="b",
    )
    assert done.returncode == 1
    assert "[store_unreachable]" in done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "hunter2" not in done.stderr


def test_a_setting_that_cannot_be_used_is_named_and_not_quoted() -> None:
    done = run("status", "0" * 32, MEDGEMMA_MAX_ATTEMPTS="secret-value")
    assert done.returncode == 1
    assert "MEDGEMMA_MAX_ATTEMPTS" in done.stderr
    assert "secret-value" not in done.stderr


def test_wrong_usage_exits_with_two() -> None:
    assert run("submit").returncode == 2


def test_wrong_usage_is_one_object_for_machines_too() -> None:
    done = run("submit", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "invalid_request"


def test_a_profile_that_is_not_there_is_told() -> None:
    done = run("status", "0" * 32, "--json", AWS_PROFILE="nobody-has-this")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "store_refused"
    assert "AWS_PROFILE" in error["message"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("L", (8, 8)).save(path)
    return path


@pytest.fixture
def served(stack_settings: Settings) -> Ledger:
    """A model that is published, with no worker: a job stays submitted."""
    ledger = Ledger(Store(stack_settings), LiveState(stack_settings))
    ledger.publish_model(StubEngine().served)
    return ledger


@pytest.mark.parametrize("command", ["submit", "fetch"])
def test_a_folder_that_cannot_be_written_is_said_before_anything_else(
    command: str, served: Ledger, picture: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    before = served.store.keys("")
    what = [str(picture), "-p", "What?"] if command == "submit" else ["0" * 32]
    done = run(command, *what, "-o", str(taken), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "file_unwritable"
    assert done.stderr == ""
    assert served.store.keys("") == before


@pytest.mark.parametrize("arguments", [["--occurrence", "3"], ["--token", "0"], ["--token", "-1"]])
def test_a_target_that_cannot_be_is_refused(
    arguments: list[str], served: Ledger, picture: Path
) -> None:
    done = run("submit", str(picture), "-p", "What?", "--no-wait", "--json", *arguments)
    assert done.returncode == 1
    wanted = "invalid_request" if "--occurrence" in arguments else "token_out_of_range"
    assert json.loads(done.stdout)["error"]["code"] == wanted


def test_a_terminal_is_told_what_it_can_do_about_a_job_that_goes_on(
    served: Ledger, picture: Path
) -> None:
    question = ("submit", str(picture), "-p", "What?")
    done = run(*question, "--timeout", "0")
    job_id = done.stderr.split()[1]
    assert done.stderr.startswith(f"job {job_id}\n")
    for said in (done, run("fetch", job_id), run("fetch", job_id, "--timeout", "0.1")):
        assert said.returncode == 1
        assert "wait()" not in said.stderr
        assert f"medgemma-explainer fetch {job_id} --timeout" in said.stderr
    quiet = run(*question, "--timeout", "0", "--json")
    assert quiet.stderr == ""
    assert json.loads(quiet.stdout)["error"]["code"] == "job_not_finished"


def test_the_answer_is_as_long_as_the_workers_allow(picture: Path, served: Ledger) -> None:
    served.publish_model(StubEngine().served.model_copy(update={"max_new_tokens": 100}))
    done = run("submit", str(picture), "-p", "What?", "--no-wait", "--json")
    assert done.returncode == 0, done.stdout


def test_ctrl_c_in_a_terminal_leaves_the_id_of_the_job(served: Ledger, picture: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "medgemma_cli", "submit", str(picture), "-p", "What?"]
    client = subprocess.Popen(command, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = ""
    try:
        while "submitted" not in said:  # the bar is there
            said += os.read(ours, 10_000).decode()
        client.send_signal(signal.SIGINT)
        assert client.wait(20) == 130
        said += os.read(ours, 10_000).decode()
    finally:
        client.kill()
        client.wait()
        os.close(ours)
    job_id = said.split("job ")[1].split()[0]
    assert served.has_request(job_id)
    assert f"medgemma-explainer fetch {job_id}" in said
    assert "Traceback" not in said


def outcome(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> int | str | None:
    """The exit status of a command that ends with an error."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(main, "app", fail)
    monkeypatch.setattr(sys, "argv", ["medgemma-explainer", *arguments])
    with pytest.raises(SystemExit) as caught:
        main.run()
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (JobNotFound("There is no such job."), "job_not_found", 1),
        (PermissionError(13, "Permission denied", "/scans/Doe^Jane.dcm"), "error", 1),
        (KeyError("Doe^Jane"), "internal_error", 70),
    ],
)
def test_every_error_is_one_line_or_one_object(
    error: Exception,
    code: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert outcome(error, monkeypatch) == status
    plain = capsys.readouterr()
    assert plain.err.count("\n") == 1
    assert plain.err.endswith(f"[{code}]\n")
    assert outcome(error, monkeypatch, "--json") == status
    machine = capsys.readouterr()
    assert json.loads(machine.out)["error"]["code"] == code
    assert "Doe" not in plain.err + machine.out + machine.err


def test_a_terminal_gets_lines_that_break_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert outcome(JobNotFound("There is no such-and-such job here."), monkeypatch) == 1
    assert capsys.readouterr().err.splitlines() == [
        "There is no",
        "such-and-such job",
        "here.",
        "[job_not_found]",
    ]


def test_the_trace_of_a_defect_is_there_for_those_who_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEDGEMMA_DEBUG", "1")
    monkeypatch.setattr(main, "app", lambda: {}["x"])
    with pytest.raises(KeyError):
        main.run()
