"""The inference service as a real process over a bucket of its own."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from conftest import free_port
from histill.adapters.s3 import S3ObjectStore
from processes import HOST, Service, running, s3_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3


@contextmanager
def inference(s3: S3, folder: Path, *, bucket: str, **settings: str) -> Iterator[Service]:
    """The service as a real process; settings by their names within ``HISTILL_INFERENCE__``."""
    port, metrics_port = free_port(), free_port()
    environment = s3_environment(s3.settings, bucket=bucket) | {
        "HISTILL_AUTH__MODE": "none",
        "HISTILL_SERVER__HOST": HOST,
        "HISTILL_SERVER__PORT": str(port),
        "HISTILL_SERVER__METRICS_PORT": str(metrics_port),
        "HISTILL_INFERENCE__POLL_S": "0.2",
        **{f"HISTILL_INFERENCE__{name.upper()}": value for name, value in settings.items()},
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
