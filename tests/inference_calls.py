"""One small inference, as our own client and as clients of others make it."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import grpc
from PIL import Image

from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.inference.v2 import grpc_service_pb2_grpc as v2_rpc
from histill.client import Client, ClientSettings
from histill.rpc.channel import bearer
from pictures import blobs
from processes import s3_environment
from services import KEY
from serving import bucket_of
from students import publish, student

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np

    from conftest import S3

TILE, _ = blobs(1, side=96)
# As gRPC has it by default, but for the balancer and the wait before a name is asked for again.
_RAW = [
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.dns_min_time_between_resolutions_ms", 500),
]


def png(pixels: np.ndarray) -> bytes:
    """An image as a file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def of_one_model(s3: S3, folder: Path) -> dict[str, str]:
    """Settings of an inference service that is ready when its one model is, and never full."""
    bucket, store = bucket_of(s3)
    publish(store, student(), folder)
    return s3_environment(s3.settings, bucket=bucket) | {
        "HISTILL_INFERENCE__PRELOAD": '["nuclei"]',
        "HISTILL_INFERENCE__RUNTIME": "onnxruntime",
        "HISTILL_INFERENCE__MAX_QUEUE": "100",
        "HISTILL_SERVER__DRAIN_S": "20",
    }


@contextmanager
def raw(target: str) -> Iterator[Callable[[], object]]:
    """As Triton's clients make it, with nothing that tries again."""
    asked = v2.ModelInferRequest(model_name="nuclei", raw_input_contents=[TILE.tobytes()])
    asked.inputs.add(name="image", datatype="UINT8", shape=[1, *TILE.shape])
    with grpc.insecure_channel(target, options=_RAW) as channel:
        stub = v2_rpc.GRPCInferenceServiceStub(channel)
        yield partial(stub.ModelInfer, asked, timeout=60, metadata=bearer(KEY))


@contextmanager
def sdk(target: str) -> Iterator[Callable[[], object]]:
    """As our own client makes it."""
    settings = {"inference": target, "api_key": KEY, "timeout_s": 60}
    with Client(ClientSettings.model_validate(settings)) as client:
        yield partial(client.segment, png(TILE), model="nuclei")
