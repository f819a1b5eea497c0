"""The report of a job: one HTML page that needs nothing but itself."""

from medgemma_client.report.page import render_report, script_hash

__all__ = ["render_report", "script_hash"]
