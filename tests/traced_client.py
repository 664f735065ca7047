"""A program that traces itself, as a hospital's would, and uses the SDK.

``python traced_client.py ENDPOINT segment INFERENCE MODEL IMAGE`` or ``... submit JOBS SPEC.json``;
the key is in ``HISTILL_CLIENT__API_KEY``. Prints the trace's id.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from histill.client import Client
from histill.client.settings import load_client


def main(endpoint: str, action: str, target: str, *arguments: str) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "viewer"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    trace.set_tracer_provider(provider)
    service = "inference" if action == "segment" else "jobs"
    settings = load_client().model_copy(update={service: target})
    with (
        Client(settings) as client,
        trace.get_tracer("viewer").start_as_current_span("look") as span,
    ):
        if action == "segment":
            client.segment(Path(arguments[1]), model=arguments[0])
        else:
            client.jobs.submit(json.loads(Path(arguments[0]).read_text()))
    sys.stdout.write(f"{span.get_span_context().trace_id:032x}\n")
    provider.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
