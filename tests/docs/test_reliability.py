"""Each guarantee names its test, and the test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/reliability.md").read_text()
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and "`" in line]
NAMED = re.findall(r"`([a-z_/]+\.py)(?:::(test_[a-z0-9_]+))?`", TEXT)


def test_every_promise_names_a_test() -> None:
    assert len(ROWS) > 20
    for row in ROWS:
        assert re.search(r"`[a-z_/]+\.py", row), row


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_the_test_that_is_named_is_there(file: str, test: str) -> None:
    source = (ROOT / "tests" / file).read_text()
    assert not test or f"def {test}(" in source
