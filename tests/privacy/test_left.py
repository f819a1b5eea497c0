"""Nothing lies about: not after a kill, and nowhere under a name that a header gave."""

from __future__ import annotations

from tests.privacy.canaries import HEADERS, SHELL, found
from tests.privacy.scene import Told


def test_a_kill_of_worker_client_command_and_readers_leaves_no_temporary_file(told: Told) -> None:
    assert told.left == {"worker": [], "commands": []}
    killed = [name for name in told.logs if name.startswith(("7-", "8-"))]
    assert len(killed) == 2  # both were at work


def test_no_url_that_a_request_a_row_a_prompt_or_a_header_names_is_called(told: Told) -> None:
    assert not told.called


def test_text_of_a_header_comes_into_no_prompt_no_path_and_no_shell(told: Told) -> None:
    for path in told.folder.rglob("*"):
        name = str(path.relative_to(told.folder))
        assert SHELL not in name
        assert found(name, HEADERS) == []
    for name in ("saved", "saved-by-command"):
        for path in (told.folder / name).iterdir():
            assert found(path.read_bytes(), HEADERS) == [], path.name
