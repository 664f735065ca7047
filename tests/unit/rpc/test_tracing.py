"""Tracing that is off costs nothing; tracing that is on holds nobody up."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from conftest import HOST
from free_ports import free_port
from histill.core.errors import SettingsError
from histill.core.tracing_settings import TracingSettings
from histill.rpc.spans import MOST_REQUESTS, Spans, remote, span_of, traceparent_of
from histill.rpc.trace_export import exporting
from histill.rpc.tracing import traceparent, traces_exported, tracing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HEADER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# What processes are made of, then one of them as far as its work.
LOADED = """
import importlib, sys, threading
for name in sys.argv[1:]:
    importlib.import_module(name)
from histill.core.settings import ServiceSettings
from histill.rpc.channel import channel, sync_channel
from histill.rpc.main import main
from histill.rpc.tracing import traceparent

async def run(settings):
    sync_channel("127.0.0.1:1").close()
    await channel("127.0.0.1:1").close()
    assert not traceparent()
    print(*(m for m in sys.modules if m.startswith("opentelemetry.")))
    print(*(t.name for t in threading.enumerate() if "Otel" in t.name))

sys.exit(main(ServiceSettings, run, process="test"))
"""


def loaded(*names: str, endpoint: str = "") -> tuple[list[str], list[str]]:
    """Modules of OpenTelemetry, and its threads, in a process that has loaded some modules."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HISTILL_")}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *names],
        capture_output=True,
        check=False,
        text=True,
        env=clean | {"HISTILL_TRACING__ENDPOINT": endpoint},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    modules, threads = done.stdout.split("\n")[:2]
    return modules.split(), threads.split()


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    """No module of the SDK or the API, and no thread; with one there are both."""
    web = ("histill.web.bootstrap", "histill.client")
    assert loaded(*web) == ([], [])
    modules, threads = loaded(*web, endpoint=f"http://{HOST}:1")
    assert {"opentelemetry.trace", "opentelemetry.sdk.trace"} <= set(modules)
    assert threads == ["OtelBatchSpanRecordProcessor"]


def test_without_an_endpoint_no_process_has_anything_that_traces() -> None:
    """Redis' client loads the SDK's metrics by itself; nothing of it traces or exports."""
    parts = ("inference", "jobs", "registry", "web")
    names = (f"histill.{part}.bootstrap" for part in parts)
    modules, threads = loaded("histill.distill.__main__", *names)
    traces = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto")
    assert [each for each in modules if each.startswith(traces)] == []
    assert threads == []


def test_off_is_off() -> None:
    """Nobody makes spans, nobody has a traceparent, within the block and after it."""
    with traces_exported(TracingSettings(), process="test"):
        assert (tracing(), traceparent()) == (None, "")


def test_a_process_traces_within_its_block_only() -> None:
    """What is made after its end is made by nobody, and no thread is left of it."""
    settings = TracingSettings(endpoint=f"http://{HOST}:{free_port()}")
    with traces_exported(settings, process="test"):
        spans = tracing()
        assert spans is not None
        with spans.within(spans.begin("work")):
            assert traceparent().startswith("00-")
        assert traceparent() == ""
    assert tracing() is None
    assert not [each for each in threading.enumerate() if "Otel" in each.name]


def test_a_missing_authority_is_told_at_the_start(tmp_path: Path) -> None:
    """Its file and its variable are named."""
    settings = TracingSettings(endpoint=f"https://{HOST}:1", ca_file=str(tmp_path / "none.crt"))
    with (
        pytest.raises(SettingsError, match=r"none\.crt.*HISTILL_TRACING__CA_FILE"),
        exporting(settings, process="test"),
    ):
        pass


@pytest.mark.parametrize("header", ["", "x", HEADER[:-1], HEADER + "-x", "ff" + HEADER[2:]])
def test_a_malformed_header_describes_no_span(header: str) -> None:
    """It counts as if there was none."""
    assert not span_of(remote(header)).is_valid


def test_a_long_header_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever sends it could otherwise have a line written with each call."""
    assert not span_of(remote(f"{HEADER}-{'0' * 5000}")).is_valid
    assert caplog.records == []


def test_a_header_is_read_as_it_was_written() -> None:
    """Trace, span and flag survive the way."""
    assert traceparent_of(span_of(remote(HEADER))) == HEADER


def test_a_context_is_left_as_it_was_even_from_another_one() -> None:
    """A stream that is not read to its end is closed by whoever finds it."""
    spans = Spans(TracerProvider(shutdown_on_exit=False).get_tracer("t"))
    span = spans.begin("stream")
    within = spans.within(span)
    contextvars.copy_context().run(within.__enter__)
    within.__exit__(None, None, None)
    assert spans.traceparent() == ""


async def test_a_stream_that_is_closed_in_another_call_leaves_that_call_its_span() -> None:
    """What began it has its own context; what closes it goes on in its own trace."""
    spans = Spans(TracerProvider(shutdown_on_exit=False).get_tracer("t"))

    async def stream() -> AsyncIterator[int]:
        with spans.within(spans.begin("stream")):
            yield 1
            yield 2

    opened: Any = stream()
    assert await asyncio.create_task(anext(opened)) == 1
    with spans.within(spans.begin("call")):
        before = spans.traceparent()
        await opened.aclose()
        assert spans.traceparent() == before
        with spans.within(spans.begin("inner")):
            assert spans.traceparent() != before
        assert spans.traceparent() == before
    assert spans.traceparent() == ""


def test_a_call_has_spans_for_so_many_requests() -> None:
    """Each call for itself; outside of calls that are kept there are none at all."""
    spans = Spans(TracerProvider(shutdown_on_exit=False).get_tracer("t"))
    assert not spans.admits()
    for _ in range(2):
        with spans.within(spans.begin("call")):
            assert [spans.admits() for _ in range(MOST_REQUESTS + 2)].count(True) == MOST_REQUESTS
