"""What the packages never do, read from their sources: a guard that no run can give."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medgemma_tasks.queue import queue_settings
from medgemma_tasks.settings import Settings
from tests.service.harness import ROOT

SOURCES = {
    path.relative_to(ROOT): ast.parse(path.read_text())
    for side in ("client", "tasks", "worker", "cli")
    for path in sorted((ROOT / side).rglob("*.py"))
}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
FETCHES = {"requests", "httpx", "aiohttp", "urllib3", "urllib.request", "http.client", "ftplib"}
IMPORTS = """\
import pkgutil, importlib, sys
from PIL import Image
before = Image.MAX_IMAGE_PIXELS
for name in ("medgemma_client", "medgemma_tasks", "medgemma_worker", "medgemma_cli"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
assert len(sys.modules) > 500
assert Image.MAX_IMAGE_PIXELS == before == 89478485, Image.MAX_IMAGE_PIXELS
"""


def nodes(kind: type[ast.AST], side: str = "") -> Iterator[tuple[Path, ast.AST]]:
    for path, tree in SOURCES.items():
        if str(path).startswith(side):
            yield from ((path, node) for node in ast.walk(tree) if isinstance(node, kind))


def imported(side: str = "") -> Iterator[tuple[Path, str]]:
    """Each module that is imported, with all that it lies in."""
    for path, node in nodes(ast.Import, side):
        assert isinstance(node, ast.Import)
        yield from ((path, part) for alias in node.names for part in _within(alias.name))
    for path, node in nodes(ast.ImportFrom, side):
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            yield from ((path, part) for part in _within(f"{node.module}.{alias.name}"))


def test_the_sources_are_read() -> None:
    assert len(SOURCES) > 150
    assert "numpy" in {module for _, module in imported()}


@pytest.mark.parametrize("name", ["MAX_IMAGE_PIXELS", "LOAD_TRUNCATED_IMAGES"])
def test_the_limits_of_pillow_are_never_touched(name: str) -> None:
    named = [path for path, node in nodes(ast.Attribute) if getattr(node, "attr", "") == name]
    named += [path for path, node in nodes(ast.Constant) if getattr(node, "value", "") == name]
    assert named == []
    assert not [path for path, module in imported() if module.endswith(f".{name}")]


def test_the_limits_of_pillow_hold_after_every_import() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, timeout=120)


def test_nothing_is_ever_unpickled() -> None:
    assert [pair for pair in imported() if pair[1] in PICKLES] == []
    for path, node in nodes(ast.keyword):
        assert isinstance(node, ast.keyword)
        if node.arg in ("allow_pickle", "trust_remote_code"):
            assert isinstance(node.value, ast.Constant), path
            assert node.value.value is False, path
    settings = queue_settings(Settings())
    assert settings["accept_content"] == settings["result_accept_content"] == ["json"]


def test_no_shell_is_ever_started() -> None:
    for path, node in nodes(ast.keyword):
        assert getattr(node, "arg", "") != "shell", path
    calls = {(path, ast.unparse(node.func)) for path, node in nodes(ast.Call)}  # type: ignore[attr-defined]
    for path, name in calls:
        assert name not in ("os.system", "os.popen", "eval", "exec", "subprocess.getoutput"), path


def test_the_worker_has_nothing_that_fetches_a_url() -> None:
    found = {
        (path.name, module)
        for side in ("worker", "tasks")
        for path, module in imported(side)
        if module in FETCHES
    }
    # For their errors, which boto3 lets through.
    assert found == {("store.py", "http.client"), ("store.py", "urllib3")}


def _within(module: str) -> Iterator[str]:
    parts = module.split(".")
    yield from (".".join(parts[: k + 1]) for k in range(len(parts)))
