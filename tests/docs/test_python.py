"""The page about the Python client tells the truth; its snippets run in test_readme.py."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medgemma_client.aio.threads import AT_ONCE
from medgemma_client.result import Result
from medgemma_tasks.errors import MedGemmaError
from tests.docs.test_readme import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text()


def with_kin(kind: type[MedGemmaError]) -> Iterator[type[MedGemmaError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from with_kin(child)


def test_every_error_stands_with_its_code_in_the_row_of_its_branch() -> None:
    rows = dict(re.findall(r"^\| `(\w+Error)` \| [^|]* \| ([^|]*) \|$", PAGE, re.MULTILINE))
    branches = {kind.__name__: kind for kind in MedGemmaError.__subclasses__()}
    assert rows.keys() == branches.keys()
    for name, codes in rows.items():
        assert re.findall(r"`(\w+)`", codes) == [kind.code for kind in with_kin(branches[name])]


def test_the_page_names_what_a_result_has() -> None:
    (table,) = re.findall(r"^\|  ?\| ?\|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    for name in re.findall(r"`(\w+)", table):
        assert name == "record" or hasattr(Result, name), name
    assert f"in {AT_ONCE}\nthreads at most" in PAGE
