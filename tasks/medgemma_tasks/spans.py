"""Making spans and sending them, by OpenTelemetry's packages; imported only where they are wanted.
See ``medgemma_tasks.tracing``."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

CALLERS = frozenset(
    {
        *("http.url", "http.target", "url.full", "url.path", "url.query"),
        *("http.user_agent", "user_agent.original"),
        *("net.peer.ip", "net.peer.port", "client.address", "client.port"),
    }
)
"""Attributes in which whoever calls a gateway can write what they like, or which tell who it is."""

PROBES = "healthz,readyz,metrics"
"""Paths of a gateway that are asked for again and again by nobody."""


def begin(service: str, consumes: bool, gateway: Any) -> None:
    """See ``medgemma_tasks.tracing.instrument``."""
    # A collector that is away must not hold up a process that ends: see tracing.flush.
    resource = Resource.create({"service.name": service})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(Discreet(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    RedisInstrumentor().instrument()  # of a command it has the name, and no argument
    BotocoreInstrumentor().instrument()
    if consumes:
        Consumer().instrument()
    if gateway is not None:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(
            gateway, excluded_urls=PROBES, exclude_spans=["receive", "send"]
        )


class Discreet(BatchSpanProcessor):  # type: ignore[misc]  # untyped here
    """Sends spans, cut down: no event (exceptions are those), no words with a status, nothing of
    who called."""

    def on_end(self, span: Any) -> None:
        attributes = span.attributes or {}
        super().on_end(
            ReadableSpan(
                name=span.name,
                context=span.context,
                parent=span.parent,
                resource=span.resource,
                attributes={k: v for k, v in attributes.items() if k not in CALLERS},
                links=span.links,
                kind=span.kind,
                status=trace.Status(span.status.status_code),
                start_time=span.start_time,
                end_time=span.end_time,
                instrumentation_scope=span.instrumentation_scope,
            )
        )


class Consumer(CeleryInstrumentor):  # type: ignore[misc]
    """Without its part for senders: that one ends no span of a task which is sent by its name, as
    ours are, and leaves it around all that follows. ``tracing.headers`` stands in for it."""

    def _trace_before_publish(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _trace_after_publish(self, *args: Any, **kwargs: Any) -> None:
        pass
