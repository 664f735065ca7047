"""What tracing costs a request: off, on but not kept, and kept.

Runs exactly what tracing adds to a Segment call (the span of the call, those of its four stages)
without the call itself, then a whole RPC of the jobs service's kind for scale, through the real
interceptor over a socket of this machine, caller and server in one process. All of it is
processor time, which a busy machine spoils least; the repeats take turns::

    PYTHONPATH=tests .venv/bin/python tests/benchmarks/tracing_cost.py --repeats 9
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from rich.console import Console
from rich.table import Table

from batchers import Mirror, model_of
from histill.api.distillation.v1 import distillation_service_pb2 as pb
from histill.api.distillation.v1 import distillation_service_pb2_grpc as rpc
from histill.core.service_settings import AuthSettings
from histill.inference.stages import stages
from histill.rpc.channel import channel
from histill.rpc.gate import Gate
from histill.rpc.interceptor import Rpc, ServerInterceptor
from histill.rpc.server_spans import traced
from histill.rpc.spans import Spans
from histill.rpc.tracing import trace_with

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

METHOD = "/histill.api.segmentation.v1.SegmentationService/Segment"
STAGES = ("decode", "queue", "compute", "encode")
MODEL = model_of(Mirror())


class Dropping(SpanExporter):
    """A collector that takes everything at once."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


@contextmanager
def mode(name: str) -> Iterator[None]:
    """Tracing as ``off``, ``not kept`` or ``kept`` says."""
    if name == "off":
        trace_with(None)
        yield
        return
    sampler = ParentBasedTraceIdRatio(1.0 if name == "kept" else 0.0)
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Dropping(), max_queue_size=1 << 16))
    trace_with(Spans(provider.get_tracer("benchmark")))
    try:
        yield
    finally:
        trace_with(None)
        provider.shutdown()


def added(calls: int) -> float:
    """Seconds that tracing adds to one request, without the exporter's thread."""
    call = Rpc(METHOD, "unary", "0af7651916cd43dd8448eb211c80319c")
    started = time.thread_time()
    for _ in range(calls):
        with traced(call, {}):
            found = stages()
            now = time.monotonic()
            for stage in STAGES:
                if found is not None:
                    found.spent(stage, now, now)
            if found is not None:
                found.tell(MODEL)
    return (time.thread_time() - started) / calls


def empty(calls: int) -> float:
    """Seconds of the same loop with nothing of tracing in it."""
    started = time.thread_time()
    for _ in range(calls):
        time.monotonic()
        for _stage in STAGES:
            pass
    return (time.thread_time() - started) / calls


class Answering(rpc.DistillationServiceServicer):
    """Answers at once."""

    async def GetJob(self, request: Any, context: Any) -> pb.GetJobResponse:  # noqa: N802
        del request, context
        return pb.GetJobResponse()


async def whole(calls: int) -> float:
    """Seconds of one RPC of caller and server together."""
    server = grpc.aio.server(interceptors=[ServerInterceptor(Gate(AuthSettings(mode="none")))])
    answering: Any = Answering
    rpc.add_DistillationServiceServicer_to_server(answering(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with channel(f"127.0.0.1:{port}") as opened:
        stub: Any = rpc.DistillationServiceStub(opened)
        request = pb.GetJobRequest(name="jobs/0123456789")
        await stub.GetJob(request)
        started = time.process_time()
        for _ in range(calls):
            await stub.GetJob(request)
        seconds = (time.process_time() - started) / calls
    await server.stop(None)
    return seconds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--calls", type=int, default=20_000)
    arguments = parser.parse_args()
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    took: dict[str, list[float]] = {}
    for _ in range(arguments.repeats):
        loop = empty(arguments.calls)
        for name, calls in (("off", arguments.calls), ("not kept", 2000), ("kept", 1000)):
            with mode(name):
                took.setdefault(name, []).append(added(calls) - loop)
        took.setdefault("RPC", []).append(asyncio.run(whole(300)))
    table = Table("", "median", "least", "most", "of an RPC")
    whole_s = statistics.median(took["RPC"])
    for name, seconds in took.items():
        median = statistics.median(seconds)
        cells = (f"{1e6 * each:.2f} µs" for each in (median, min(seconds), max(seconds)))
        table.add_row(name, *cells, f"{100 * median / whole_s:.2f} %")
    Console().print(table)


if __name__ == "__main__":
    main()
