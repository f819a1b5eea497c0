"""Traces of programs that use this client, if they like: see ``medgemma_tasks.tracing``."""

from __future__ import annotations

from medgemma_tasks.tracing import check, flush, instrument, span, wanted

__all__ = ["check", "flush", "instrument", "span", "wanted"]
