"""Kubernetes manifests as kubectl's own Kustomize renders them, and what is looked up in them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.tools import tool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
Manifest = dict[str, Any]


def rendered(folder: Path) -> list[Manifest]:
    """What ``kubectl apply -k`` would send to the cluster. It asks no cluster."""
    answer = subprocess.run(
        [tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == "", "Kustomize warns of what is deprecated"
    return list(yaml.safe_load_all(answer.stdout))


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [one for one in of_kind(manifests, kind) if one["metadata"]["name"] == name]
    return found


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The template of each pod, by the name of what makes it."""
    found = {}
    for manifest in of_kind(manifests, "Deployment", "CronJob"):
        spec = manifest["spec"]
        if manifest["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        found[manifest["metadata"]["name"]] = spec["template"]
    return found


def container(pod: Manifest) -> Manifest:
    (only,) = pod["spec"]["containers"]
    assert "initContainers" not in pod["spec"]
    found: Manifest = only
    return found


def probes(pod: Manifest) -> Iterator[Manifest]:
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if name in container(pod):
            yield container(pod)[name]


def variables(pod: Manifest) -> dict[str, str | None]:
    """Those that the container names itself; None where a secret has the value."""
    return {one["name"]: one.get("value") for one in container(pod).get("env", ())}
