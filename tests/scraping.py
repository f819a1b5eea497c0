"""Reading what a part serves to whoever watches it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families


class Scraped:
    """What ``/metrics`` said at one moment."""

    def __init__(self, port: int) -> None:
        self.text = asked(port, "/metrics")[1]
        self.families = {
            family.name: family for family in text_string_to_metric_families(self.text)
        }
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Of the one sample that has this name and, among others, these labels; None without."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert len(found) <= 1, (name, labels)
        return found[0] if found else None


def asked(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and text of an answer; 0 where nobody answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def told(port: int, path: str) -> tuple[int, Any]:
    """Status and JSON of an answer."""
    status, text = asked(port, path)
    return status, json.loads(text) if text else None
