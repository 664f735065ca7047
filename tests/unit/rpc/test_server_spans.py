"""Who decides whether a trace is kept: callers who are known, and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from conftest import HOST
from histill.api.distillation.v1 import distillation_service_pb2 as pb
from histill.api.distillation.v1 import distillation_service_pb2_grpc as rpc
from histill.core.api_keys import digest, new_secret
from histill.core.service_settings import AuthSettings
from histill.rpc.channel import bearer
from histill.rpc.gate import Gate
from histill.rpc.interceptor import ServerInterceptor
from histill.rpc.spans import Spans
from histill.rpc.tracing import trace_with

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

KEY = new_secret()
VIEWER = {"id": "pacs", "role": "viewer", "sha256": digest(KEY)}
# Of whoever chooses its id so that a sampler by the id keeps it.
CHOSEN = "00-0af7651916cd43dd0000000000000001-b7ad6b7169203331-01"
NOT_KEPT = CHOSEN[:-1] + "0"


class Silent(rpc.DistillationServiceServicer):
    """Answers who is let in."""

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:  # noqa: N802
        del request, context
        return pb.GetJobResponse()


@pytest.fixture
def kept() -> Iterator[Callable[[float], InMemorySpanExporter]]:
    """Traces this process with a ratio."""

    def traced(ratio: float) -> InMemorySpanExporter:
        exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace_with(Spans(provider.get_tracer("test"), ratio=ratio))
        return exporter

    yield traced
    trace_with(None)


@pytest.fixture
async def call() -> AsyncIterator[Callable[..., Any]]:
    """Calls a server that knows one key; the code that it answers with."""
    settings = AuthSettings.model_validate({"api_keys": [VIEWER]})
    server = grpc.aio.server(interceptors=[ServerInterceptor(Gate(settings))])
    silent: Any = Silent
    rpc.add_DistillationServiceServicer_to_server(silent(), server)
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    # Without our own interceptors: the caller is a stranger.
    channel = grpc.aio.insecure_channel(f"{HOST}:{port}")
    stub: Any = rpc.DistillationServiceStub(channel)

    async def ask(traceparent: str, key: str = "") -> grpc.StatusCode:
        metadata = (("traceparent", traceparent), *bearer(key))
        try:
            await stub.GetJob(pb.GetJobRequest(name="jobs/x"), metadata=metadata, timeout=30)
        except grpc.aio.AioRpcError as exc:
            return exc.code()
        return grpc.StatusCode.OK

    yield ask
    await channel.close()
    await server.stop(None)


async def test_a_flag_of_somebody_unknown_keeps_nothing(
    kept: Callable[[float], InMemorySpanExporter], call: Callable[..., Any]
) -> None:
    """Without a key or with a wrong one, whatever id the trace has."""
    exporter = kept(0.0)
    for key in ("", new_secret()):
        assert await call(CHOSEN, key) is grpc.StatusCode.UNAUTHENTICATED
    assert exporter.get_finished_spans() == ()


async def test_somebody_unknown_is_kept_as_often_as_the_ratio_says(
    kept: Callable[[float], InMemorySpanExporter], call: Callable[..., Any]
) -> None:
    """All with 1, in the trace that they name; with less some, of one trace's id as of others."""
    everything = kept(1.0)
    await call(CHOSEN)
    (span,) = everything.get_finished_spans()
    assert f"{span.context.trace_id:032x}" in CHOSEN
    some = kept(0.5)
    for _ in range(100):
        await call(CHOSEN)
    # Outside of it once in 10^9 runs.
    assert 20 < len(some.get_finished_spans()) < 80


async def test_a_caller_who_is_known_decides(
    kept: Callable[[float], InMemorySpanExporter], call: Callable[..., Any]
) -> None:
    """Kept at a ratio of 0, not kept at 1; also where the role does not allow the call."""
    nothing = kept(0.0)
    assert await call(CHOSEN, KEY) is grpc.StatusCode.OK
    (span,) = nothing.get_finished_spans()
    assert (span.attributes or {})["histill.project"] == "default"
    everything = kept(1.0)
    await call(NOT_KEPT, KEY)
    assert everything.get_finished_spans() == ()


@pytest.mark.parametrize("ratio", [0.0, 1.0])
async def test_without_a_header_the_ratio_counts(
    kept: Callable[[float], InMemorySpanExporter], call: Callable[..., Any], ratio: float
) -> None:
    """For who is known as for who is not: refused calls are worth a look."""
    exporter = kept(ratio)
    await call("", KEY)
    await call("")
    assert len(exporter.get_finished_spans()) == 2 * ratio
