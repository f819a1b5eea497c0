from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_tasks.errors import InvalidSettings, PartMissing
from medgemma_tasks.tracing import check, following, traceparent, wanted

PARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_TRACES_EXPORTER": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, False),
    ],
)
def test_the_environment_asks_for_traces_in_opentelemetrys_own_words(
    environment: dict[str, str], asked: bool
) -> None:
    assert wanted(environment) is asked


def test_another_exporter_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="OTEL_TRACES_EXPORTER"):
        wanted({"OTEL_TRACES_EXPORTER": "zipkin"})


def test_the_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "medgemma_tasks.spans", None)
    monkeypatch.delattr("medgemma_tasks.spans", raising=False)
    check({})
    with pytest.raises(PartMissing, match=r"medgemma-explainer\[otel\]"):
        check({"OTEL_TRACES_EXPORTER": "otlp"})


def test_where_nobody_asks_nothing_of_opentelemetry_is_imported() -> None:
    program = (
        "import sys\n"
        "from medgemma_tasks.tracing import following, flush, headers, instrument, span\n"
        "assert not instrument('x')\n"
        "with span('x', job_id='y'):\n"
        "    assert headers() == {}\n"
        "following(None), flush()\n"
        "sys.exit('opentelemetry' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_place_in_a_trace_is_kept() -> None:
    assert traceparent(PARENT) == PARENT


@given(st.one_of(st.integers(), st.none(), st.text("0123456789abcdef-G \n", max_size=60)))
def test_whatever_else_stands_there_is_not(text: object) -> None:
    assert traceparent(text) is None


@pytest.mark.parametrize("wrong", [PARENT + "\n", PARENT.upper(), "01" + PARENT[2:], PARENT + "-x"])
def test_nor_is_what_looks_like_one(wrong: str) -> None:
    assert traceparent(wrong) is None


def test_what_follows_a_message_is_in_its_trace_and_without_one_in_none() -> None:
    from opentelemetry import propagate, trace

    assert propagate  # by which it is known that this process is traced

    def current() -> int:
        return int(trace.get_current_span().get_span_context().trace_id)

    assert following(PARENT).run(current) == int(PARENT.split("-")[1], 16)
    assert following(PARENT).run(lambda: following(None).run(current)) == 0
    assert current() == 0
