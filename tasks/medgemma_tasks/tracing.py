"""Traces by OpenTelemetry, where the environment asks for them.

Spans hold ids, names of commands and of stages, and codes. Libraries write more: the text of an
exception and of all that it came from, which may quote an answer, or the address that somebody
called. So what leaves a process is cut down (``medgemma_tasks.spans``), whoever wrote it.

Whether this process is traced OpenTelemetry itself knows: where nobody has imported it, nothing
here does anything, and costs nothing.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any

from medgemma_tasks.errors import InvalidSettings, PartMissing

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

TRACEPARENT = "traceparent"
"""The header of a message that says which span it was sent in, in the form of W3C Trace Context."""

FLUSH_SECONDS = 2.0
"""Longest wait for a collector by a process that ends."""

_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment asks for traces. Raises InvalidSettings where for some other than
    those that go by OTLP over HTTP."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    chosen = environ.get("OTEL_TRACES_EXPORTER") or None
    if chosen not in (None, "otlp", "none"):
        raise InvalidSettings("OTEL_TRACES_EXPORTER must be otlp or none.")
    return chosen == "otlp" or (chosen is None and any(map(environ.get, ENDPOINTS)))


def check(environ: Mapping[str, str] = os.environ) -> None:
    """Raises PartMissing where traces are wanted and cannot be made, before anything is begun."""
    if wanted(environ):
        _parts()


def instrument(service: str, *, consumes: bool = False, gateway: Any = None) -> bool:
    """Trace this process, if the environment asks for it; whether it does. Once, and not in a
    process that forks.

    service: its name where OTEL_SERVICE_NAME says none. consumes: whether it runs tasks of Celery.
    gateway: an application of FastAPI.

    Raises PartMissing without the packages, InvalidSettings for an exporter that is not there.
    """
    if not wanted():
        return False
    _parts().begin(os.environ.get("OTEL_SERVICE_NAME") or service, consumes, gateway)
    return True


@contextmanager
def span(name: str, **ids: str | int) -> Iterator[None]:
    """A span of ours, with ids as its attributes; one that fails has the error's code."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        yield
        return
    with trace.get_tracer("medgemma-explainer").start_as_current_span(
        name,
        attributes={f"medgemma.{key}": value for key, value in ids.items()},
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield
        except BaseException as error:
            current.set_status(trace.StatusCode.ERROR)
            current.set_attribute("medgemma.code", getattr(error, "code", type(error).__name__))
            raise


def headers() -> dict[str, str]:
    """What a message is to carry so that who takes it goes on with this trace; nothing without."""
    propagate: Any = sys.modules.get("opentelemetry.propagate")
    carried: dict[str, str] = {}
    if propagate is not None:
        propagate.inject(carried)
    found = traceparent(carried.get(TRACEPARENT))
    return {} if found is None else {TRACEPARENT: found}


def traceparent(text: object) -> str | None:
    """The header's value where it is one; None for whatever else somebody wrote there."""
    return text if isinstance(text, str) and _TRACEPARENT.fullmatch(text) else None


def following(parent: str | None) -> Context:
    """A context, else like this one, in which spans belong to the trace of a header; to none
    that there is now, where there is no header."""
    context = copy_context()
    propagate: Any = sys.modules.get("opentelemetry.propagate")
    if propagate is not None:
        from opentelemetry.context import Context as Trace
        from opentelemetry.context import attach

        carried = {} if parent is None else {TRACEPARENT: parent}
        context.run(lambda: attach(propagate.extract(carried, context=Trace())))
    return context


def flush() -> None:
    """Send what has not been sent yet, before this process ends."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    provider: Any = None if trace is None else trace.get_tracer_provider()
    if hasattr(provider, "force_flush"):
        # In a thread, since it tries again and again, whatever limit it is given.
        sending = threading.Thread(target=provider.force_flush, daemon=True)
        sending.start()
        sending.join(FLUSH_SECONDS)


def _parts() -> Any:
    try:
        from medgemma_tasks import spans
    except ImportError:
        raise PartMissing(
            "The environment asks for traces (OTEL_...), which need the packages of "
            "medgemma-explainer[otel]: install them, or unset it."
        ) from None
    return spans
