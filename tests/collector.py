"""A collector of spans: a real OTLP server, of which a test can ask what has come."""

from __future__ import annotations

import time
from collections import defaultdict
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc

from conftest import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Seen:
    """One span, as it was sent.

    Attributes:
        service: ``service.name`` of the process.
        kind: Of OpenTelemetry's: 1 internal, 2 server, 3 client, 5 consumer.
        links: Span ids.
        status: 0 unset, 1 ok, 2 error.
        began: Nanoseconds since 1970.
        ended: As ``began``.
    """

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    attributes: dict[str, Any]
    status: int
    began: int
    ended: int

    @property
    def traceparent(self) -> str:
        """The header with which a call would be its child."""
        return f"00-{self.trace}-{self.id}-01"


@dataclass
class Collector(rpc.TraceServiceServicer):
    """Keeps what is sent.

    Attributes:
        endpoint: For ``HISTILL_TRACING__ENDPOINT``.
        requests: As they came.
    """

    endpoint: str = ""
    requests: list[bytes] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    spans: list[Seen] = field(default_factory=list)

    def Export(self, request: pb.ExportTraceServiceRequest, context: Any) -> Any:  # noqa: N802
        del context
        self.requests.append(request.SerializeToString())
        for group in request.resource_spans:
            resource = _values(group.resource.attributes)
            self.resources.append(resource)
            for scope in group.scope_spans:
                self.spans += [_seen(str(resource["service.name"]), each) for each in scope.spans]
        return pb.ExportTraceServiceResponse()

    def wait(self, found: Callable[[list[Seen]], bool], *, seconds: float = 30.0) -> list[Seen]:
        """All spans, once they are as they should be."""
        deadline = time.monotonic() + seconds
        while not found(list(self.spans)):
            if time.monotonic() > deadline:
                told = [(each.service, each.name, each.trace[:6]) for each in self.spans]
                pytest.fail(f"not all spans came in {seconds} s: {told}")
            time.sleep(0.05)
        return list(self.spans)

    def trace_of(
        self, name: str, *names: str, service: str = "", seconds: float = 30.0
    ) -> dict[str, list[Seen]]:
        """Spans of the last trace with a span of that name, by name, once it has all of these."""

        def last() -> dict[str, list[Seen]]:
            ids = [s.trace for s in self.spans if s.name == name and service in {"", s.service}]
            found: dict[str, list[Seen]] = defaultdict(list)
            for each in self.spans:
                if ids and each.trace == ids[-1]:
                    found[each.name].append(each)
            return found

        self.wait(lambda _: {name, *names} <= last().keys(), seconds=seconds)
        return last()


def _seen(service: str, span: Any) -> Seen:
    return Seen(
        service=service,
        name=span.name,
        kind=span.kind,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=tuple(link.span_id.hex() for link in span.links),
        attributes=_values(span.attributes),
        status=span.status.code,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def collecting(credentials: grpc.ServerCredentials | None = None) -> Iterator[Collector]:
    """A collector that listens, in clear text or with TLS."""
    made: Any = Collector
    collector: Collector = made()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add: Any = rpc.add_TraceServiceServicer_to_server
    add(collector, server)
    if credentials is None:
        collector.endpoint = f"http://{HOST}:{server.add_insecure_port(f'{HOST}:0')}"
    else:
        collector.endpoint = f"https://localhost:{server.add_secure_port(f'{HOST}:0', credentials)}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
