"""What Prometheus scrapes and Grafana is given in the compose file: promtool reads it, and places
and ports are those of the services."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tools import tool

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(ROOT / "docker-compose.yml")["services"]
    return found


def test_promtool_accepts_the_configuration() -> None:
    checked = subprocess.run(
        [tool("promtool"), "check", "config", "--lint-fatal", "prometheus.yml"],
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_target_is_a_service_at_the_port_that_it_serves(
    services: dict[str, dict[str, Any]],
) -> None:
    jobs = {job["job_name"]: job for job in read(PROMETHEUS / "prometheus.yml")["scrape_configs"]}
    (found,) = jobs["worker"]["dns_sd_configs"]
    assert set(found["names"]) == {name for name in services if name.startswith("worker-")}
    for name in found["names"]:
        environment = services[name]["environment"]
        assert environment["MEDGEMMA_METRICS_PORT"] == found["port"]
        assert environment["MEDGEMMA_METRICS_HOST"] == "0.0.0.0"
    for name in ("gateway", "exporter"):
        (static,) = jobs[name]["static_configs"]
        command = services[name]["command"]
        assert static["targets"] == [f"{name}:{command[command.index('--port') + 1]}"]
        assert command[command.index("--host") + 1] == "0.0.0.0"


def test_grafana_finds_prometheus_and_the_dashboards_where_they_are(
    services: dict[str, dict[str, Any]],
) -> None:
    grafana = services["grafana"]
    place = grafana["environment"]["GF_PATHS_PROVISIONING"]
    mounted = next(volume for volume in grafana["volumes"] if volume.startswith("./deploy/grafana"))
    folder = mounted.split(":")[1]
    assert place == f"{folder}/{PROVISIONING.name}"
    (provider,) = read(PROVISIONING / "dashboards" / "medgemma.yml")["providers"]
    assert provider["options"]["path"] == folder
    assert list((ROOT / "deploy" / "grafana").rglob("*.json")) == [
        PROVISIONING.parent / "dashboard.json"
    ]
    (source,) = read(PROVISIONING / "datasources" / "prometheus.yml")["datasources"]
    assert re.fullmatch(r"http://prometheus:\d+", source["url"])
    (published,) = services["prometheus"]["ports"]
    assert source["url"].endswith(published.rsplit(":", 1)[1])
