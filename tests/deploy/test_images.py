"""The Dockerfiles, by the rules that can be read off them: no engine builds them here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = ["client", "worker"]


def dockerfile(name: str) -> str:
    return (ROOT / "deploy" / f"{name}.Dockerfile").read_text()


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_nobody_special_whom_a_kubelet_can_tell_from_root(name: str) -> None:
    text = dockerfile(name)
    assert text.index("USER 10001:10001") < text.index("\nCMD [")
    assert "--uid 10001" in text


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_takes_what_is_named_and_no_env_file(name: str) -> None:
    ignored = (ROOT / "deploy" / f"{name}.Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = re.findall(r"^COPY (.+) \S+$", dockerfile(name), flags=re.MULTILINE)
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert source in allowed or (source.startswith("deploy/") and "deploy/*.py" in allowed)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_every_package_of_the_distribution_and_its_pins(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    text = dockerfile(name)
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        folder = package.partition("/")[0]
        assert f"COPY {folder} ./{folder}\n" in text
    for installed in re.findall(r"^RUN pip install (.+)$", text, flags=re.MULTILINE):
        assert installed.startswith("--constraint constraints.txt ")
    (extras,) = re.findall(r"^ARG EXTRAS=(.+)$", text, flags=re.MULTILINE)
    assert set(extras.split(",")) <= set(project["project"]["optional-dependencies"])


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_starts_from_a_version_and_runs_a_list_and_no_shell(name: str) -> None:
    text = dockerfile(name)
    assert re.findall(r"^FROM (.+)$", text, flags=re.MULTILINE) == ["python:3.11-slim-bookworm"]
    for command in re.findall(r"^(?:CMD|ENTRYPOINT|    CMD) (.+)$", text, flags=re.MULTILINE):
        assert command.startswith("[")
