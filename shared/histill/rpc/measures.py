"""Prometheus metrics of every gRPC server, with the names that dashboards expect."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram

_LABELS = ["grpc_type", "grpc_service", "grpc_method"]

STARTED = Counter("grpc_server_started_total", "RPCs started.", _LABELS)
HANDLED = Counter("grpc_server_handled_total", "RPCs ended, by status.", [*_LABELS, "grpc_code"])
SECONDS = Histogram(
    "grpc_server_handling_seconds",
    "Seconds from start to end of an RPC.",
    _LABELS,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)

AUDITED = Counter("histill_audit_records_total", "Records written to the audit log.")
AUDIT_DROPPED = Counter("histill_audit_dropped_total", "Records for which there was no room.")
AUDIT_HELD = Gauge("histill_audit_held_bytes", "Bytes of records that are not in S3 yet.")

BUILD_INFO = Gauge("histill_build_info", "1: which process this is.", ["process", "version"])
READY = Gauge(
    "histill_ready",
    "1 while the process says that it is ready, else 0; the web page has no such state.",
    ["process"],
)
CERTIFICATE_EXPIRY = Gauge(
    "histill_tls_certificate_expiry_timestamp_seconds",
    "When the certificate that is in use expires, in seconds since 1970.",
    ["use"],
)


def tell_build(process: str) -> None:
    """Says which process tells these metrics, and of which version it is."""
    BUILD_INFO.labels(process, version("histill")).set(1)
