"""The inference service as a real process over a bucket of its own."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from free_ports import free_port
from histill.adapters.s3 import S3ObjectStore
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from processes import HOST, Service, running, s3_environment

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from conftest import S3
    from histill.api.segmentation.v1 import segmentation_service_pb2 as pb


@contextmanager
def inference(
    s3: S3,
    folder: Path,
    variables: Mapping[str, str] | None = None,
    /,
    *,
    bucket: str,
    **settings: str,
) -> Iterator[Service]:
    """The service as a real process; settings by their names within ``HISTILL_INFERENCE__``.

    ``variables`` are further ones, by their whole names.
    """
    port, metrics_port = free_port(), free_port()
    environment = s3_environment(s3.settings, bucket=bucket) | {
        "HISTILL_AUTH__MODE": "none",
        "HISTILL_SERVER__HOST": HOST,
        "HISTILL_SERVER__PORT": str(port),
        "HISTILL_SERVER__METRICS_PORT": str(metrics_port),
        "HISTILL_SERVER__HEALTH_PORT": "-1",
        "HISTILL_INFERENCE__POLL_S": "0.2",
        "HISTILL_AUDIT__FOLDER": str(folder / "audit"),
        **{f"HISTILL_INFERENCE__{name.upper()}": value for name, value in settings.items()},
        **(variables or {}),
    }
    with running(
        "histill.inference", environment, port=port, metrics_port=metrics_port, folder=folder
    ) as service:
        yield service


def bucket_of(s3: S3) -> tuple[str, S3ObjectStore]:
    """A fresh bucket, and the store in it."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    store = S3ObjectStore.connect(s3.settings.model_copy(update={"bucket": name}))
    store.ensure_bucket()
    return name, store


def keep_asking(
    service: Service,
    request: pb.SegmentRequest,
    expected: Mapping[str, bytes],
    stop: threading.Event,
) -> list[str]:
    """Asks until told to stop, and holds each answer against what its version must say.

    Returns:
        The versions that answered, in order.
    """
    seen = []
    with grpc.insecure_channel(service.target) as own:
        stub = rpc.SegmentationServiceStub(own)
        while not stop.is_set():
            answer = stub.Segment(request, timeout=10)
            assert answer.mask == expected[answer.summary.model]
            seen.append(answer.summary.model)
    return seen
