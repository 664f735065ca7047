"""Sends a process's spans to a collector; imported only where tracing is on.

The exporter has a thread and a channel of its own. Neither crosses a fork: these processes
fork nowhere, their children (decoders, health, trainers) are programs that start anew.
"""

from __future__ import annotations

import logging
import socket
import threading
import uuid
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import structlog
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from histill.core.errors import SettingsError
from histill.rpc.span_queue import Bounded, Quietly, Waiting
from histill.rpc.spans import Spans
from histill.rpc.tracing import trace_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.core.tracing_settings import TracingSettings

MOST_WAITING = 4096
# At the end of the process, beyond its drain.
FLUSH_S = 3.0
_AT_ONCE = 512
_EVERY_MS = 2000.0
_EXPORT_S = 10.0
# It logs each of its tries; what matters of that is told here.
_TALKATIVE = "opentelemetry.exporter.otlp.proto.grpc.exporter"
log = structlog.get_logger()


@contextmanager
def exporting(settings: TracingSettings, *, process: str) -> Iterator[None]:
    """Makes spans and sends them while the block runs, and what waits then at its end.

    Args:
        settings: Where to, and how many.
        process: Its name, without ``histill-``.

    Raises:
        SettingsError: The file of the collector's authority cannot be read.
    """
    logging.getLogger(_TALKATIVE).disabled = True
    waiting = Waiting(most=MOST_WAITING, endpoint=settings.endpoint)
    exporter = Quietly(
        OTLPSpanExporter(
            endpoint=settings.endpoint,
            insecure=settings.endpoint.startswith("http://"),
            credentials=_credentials(settings),
            timeout=_EXPORT_S,
        ),
        waiting,
    )
    # OTEL_RESOURCE_ATTRIBUTES, which Kubernetes' operators set, count besides.
    resource = Resource.create(
        {
            "service.name": f"histill-{process}",
            "service.version": version("histill"),
            "service.instance.id": str(uuid.uuid4()),
            "host.name": socket.gethostname(),
        }
    )
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(settings.ratio),
        resource=resource,
        shutdown_on_exit=False,
    )
    batches = BatchSpanProcessor(
        exporter,
        max_queue_size=MOST_WAITING + _AT_ONCE,
        schedule_delay_millis=_EVERY_MS,
        max_export_batch_size=_AT_ONCE,
    )
    provider.add_span_processor(Bounded(batches, waiting))
    tracer = provider.get_tracer("histill", version("histill"))
    trace_with(Spans(tracer, ratio=settings.ratio))
    log.info("tracing", endpoint=settings.endpoint, ratio=settings.ratio)
    try:
        yield
    finally:
        trace_with(None)
        # A collector that is away would be waited for for half a minute.
        limit = threading.Timer(FLUSH_S, exporter.shutdown)
        limit.daemon = True
        limit.start()
        provider.shutdown()
        limit.cancel()
        waiting.close()


def _credentials(settings: TracingSettings) -> grpc.ChannelCredentials | None:
    if not settings.ca_file:
        return None  # in clear text, or with the authorities that gRPC knows
    try:
        return grpc.ssl_channel_credentials(Path(settings.ca_file).read_bytes())
    except OSError as exc:
        raise SettingsError(
            f"{settings.ca_file} cannot be read: {exc.strerror}; correct HISTILL_TRACING__CA_FILE"
        ) from exc
