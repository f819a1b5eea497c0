"""How programs that use this client log, if they like: see ``medgemma_tasks.logs``."""

from __future__ import annotations

from medgemma_tasks.logs import FIELDS, about, json_formatter, set_up_logs

__all__ = ["FIELDS", "about", "json_formatter", "set_up_logs"]
