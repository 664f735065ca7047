"""Requests, and bursts of them, with what they took."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np
from PIL import Image

from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.inference.v2 import grpc_service_pb2_grpc as v2_rpc
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_INFER = "/inference.GRPCInferenceService/ModelInfer"
_SEGMENT = "/histill.api.segmentation.v1.SegmentationService/Segment"
_TIMEOUT_S = 60


def noise(side: int) -> np.ndarray:
    """uint8 [side, side, 3], smooth enough that PNG shrinks it as it does a photograph."""
    coarse = np.random.default_rng(side).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def request_of(model: str, side: int) -> bytes:
    """A serialised ModelInferRequest for one image, which asks for the mask alone."""
    request = v2.ModelInferRequest(model_name=model)
    request.inputs.add(name="image", datatype="UINT8", shape=(1, side, side, 3))
    request.outputs.add(name="mask")
    request.raw_input_contents.append(noise(side).tobytes())
    return request.SerializeToString()


def segment_of(model: str, side: int) -> bytes:
    """A serialised SegmentRequest for the same image as PNG."""
    out = io.BytesIO()
    Image.fromarray(noise(side)).save(out, "PNG", compress_level=1)
    return pb.SegmentRequest(model=model, encoded=out.getvalue()).SerializeToString()


class Client:
    """Sends bytes and takes bytes, so that the client costs the same for every server.

    Args:
        address: ``host:port``.
    """

    def __init__(self, address: str) -> None:
        limits = [(f"grpc.max_{way}_message_length", 64 << 20) for way in ("send", "receive")]
        self._channel = grpc.insecure_channel(
            address, [*limits, ("grpc.use_local_subchannel_pool", 1)]
        )
        self._stub = v2_rpc.GRPCInferenceServiceStub(self._channel)
        self._calls: dict[str, Any] = {
            method: self._channel.unary_unary(method) for method in (_INFER, _SEGMENT)
        }

    def infer(self, request: bytes) -> bytes:
        """ModelInfer."""
        answer: bytes = self._calls[_INFER](request, timeout=_TIMEOUT_S)
        return answer

    def segment(self, request: bytes) -> bytes:
        """Segment."""
        answer: bytes = self._calls[_SEGMENT](request, timeout=_TIMEOUT_S)
        return answer

    def load(self, model: str) -> None:
        """RepositoryModelLoad."""
        request = v2.RepositoryModelLoadRequest(model_name=model)
        self._stub.RepositoryModelLoad(request, timeout=_TIMEOUT_S)

    def unload(self, model: str) -> None:
        """RepositoryModelUnload."""
        request = v2.RepositoryModelUnloadRequest(model_name=model)
        self._stub.RepositoryModelUnload(request, timeout=_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()


@dataclass
class Taken:
    """What bursts took.

    Attributes:
        seconds: Of each request.
        wall: Seconds of all bursts.
        cpu: Processor seconds of the server meanwhile.
    """

    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0

    def quantile(self, share: float) -> float:
        """Of the requests' seconds."""
        return float(np.quantile(self.seconds, share))

    @property
    def throughput(self) -> float:
        """Requests a second."""
        return len(self.seconds) / self.wall

    @property
    def cpu_ms(self) -> float:
        """Processor milliseconds a request."""
        return 1000 * self.cpu / len(self.seconds)


def burst(
    send: Callable[[], object],
    *,
    requests: int,
    at_once: int,
    cpu_seconds: Callable[[], float],
    into: Taken,
) -> None:
    """Sends requests, so many at a time, and adds what they took to ``into``."""
    before, began = cpu_seconds(), time.perf_counter()
    if at_once == 1:
        into.seconds += [_timed(send) for _ in range(requests)]
    else:
        with ThreadPoolExecutor(at_once) as threads:
            into.seconds += threads.map(lambda _: _timed(send), range(requests))
    into.wall += time.perf_counter() - began
    into.cpu += cpu_seconds() - before


def _timed(send: Callable[[], object]) -> float:
    started = time.perf_counter()
    send()
    return time.perf_counter() - started


@dataclass
class Flood:
    """Answers to more requests than a server can take.

    Attributes:
        accepted: Seconds of those that were answered.
        refused: Seconds of those that got RESOURCE_EXHAUSTED.
        hinted: How many of those were told when to come back.
        others: Codes of any other failures.
    """

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    hinted: int = 0
    others: list[str] = field(default_factory=list)


def flood(address: str, request: bytes, *, a_second: float, seconds: float) -> Flood:
    """Sends requests at a fixed rate, whether they are answered or not."""
    found, lock, ended = Flood(), threading.Lock(), threading.Semaphore(0)
    count = round(a_second * seconds)
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(_INFER)

        def note(future: Any, started: float) -> None:
            took = time.perf_counter() - started
            with lock:
                if future.code() is grpc.StatusCode.OK:
                    found.accepted.append(took)
                elif future.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    found.refused.append(took)
                    trailers = dict(future.trailing_metadata())
                    found.hinted += int(trailers.get("grpc-retry-pushback-ms", -1)) >= 0
                else:
                    found.others.append(future.code().name)
            ended.release()

        began = time.perf_counter()
        for number in range(count):
            time.sleep(max(0.0, began + number / a_second - time.perf_counter()))
            started = time.perf_counter()
            future = call.future(request, timeout=_TIMEOUT_S)
            future.add_done_callback(lambda done, started=started: note(done, started))
        for _ in range(count):
            ended.acquire()
    return found
