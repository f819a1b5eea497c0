"""A real Prometheus, with the configuration and the rules that are deployed."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.scraping import asked
from tests.service.harness import ROOT, until
from tests.tools import tool
from tests.worker.supervised import free_port

DEPLOYED = ROOT / "deploy" / "prometheus"
WAIT = 60.0


@dataclass(frozen=True)
class Prometheus:
    """What its HTTP API says."""

    port: int

    def api(self, path: str, **asked_for: object) -> Any:
        """The data of an answer; AssertionError, with what it says, where that is an error."""
        query = urlencode(asked_for)
        status, text = asked(self.port, f"/api/v1/{path}?{query}")
        assert status == 200, (path, query, text)
        return json.loads(text)["data"]

    def values(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of each series of an expression, now."""
        found = self.api("query", query=expression)
        assert found["resultType"] == "vector", expression
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    def alerts(self) -> dict[str, dict[str, Any]]:
        """Those that are pending or firing, by name."""
        return {one["labels"]["alertname"]: one for one in self.api("alerts")["alerts"]}

    def rules(self) -> list[dict[str, Any]]:
        """How each rule is."""
        return [rule for group in self.api("rules")["groups"] for rule in group["rules"]]

    def healthy(self) -> set[str]:
        """The jobs whose targets answered when they last were asked."""
        targets = self.api("targets")["activeTargets"]
        return {one["labels"]["job"] for one in targets if one["health"] == "up"}

    def targets(self) -> str:
        """What each said, for whoever looks why one is not up."""
        return str(self.api("targets")["activeTargets"])


@contextmanager
def scraping(
    folder: Path, ports: Mapping[str, int], sooner: Mapping[str, str]
) -> Iterator[Prometheus]:
    """Prometheus, which asks each second. Of what is deployed three things are others: where the
    parts are (ports: by job), how often they are asked, and for how long a cause must last (sooner:
    by alert)."""
    program, port = tool("prometheus"), free_port()
    (folder / "prometheus.yml").write_text(_configuration({**ports, "prometheus": port}))
    (folder / "alerts.yml").write_text(_rules(sooner))
    log = folder / "prometheus.log"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        until(lambda: asked(port, "/-/ready")[0] == 200, WAIT, log.read_text)
        yield Prometheus(port)
    finally:
        process.kill()
        process.wait()


def _configuration(ports: Mapping[str, int]) -> str:
    said = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    said["global"] = dict.fromkeys(said["global"], "1s")
    assert {job["job_name"] for job in said["scrape_configs"]} == ports.keys()
    for job in said["scrape_configs"]:
        # DNS knows containers; nothing here is one.
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    return yaml.safe_dump(said)


def _rules(sooner: Mapping[str, str]) -> str:
    text = (DEPLOYED / "alerts.yml").read_text()
    for alert, lasting in sooner.items():
        text, found = re.subn(
            rf"(- alert: {alert}\n(?:(?!- alert).*\n)*? +for: )\w+", rf"\g<1>{lasting}", text
        )
        assert found == 1, alert
    return text
