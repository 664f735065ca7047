"""Both ways through the page at once: who goes away, who is slow, and what breaks off."""

from __future__ import annotations

import json
import signal
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest

from free_ports import free_port
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from pages import HOST, Page, page_of
from processes import running, s3_environment, wait_until_serving
from serving import bucket_of
from students import publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3

CHUNK = bytes(1 << 20)
ENDLESS = 400


class Inference(rpc.SegmentationServiceServicer):
    """Does what the model's name says: hangs, breaks off, or sends without end."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.reached = threading.Event()
        self.received = 0
        self.sent = 0

    def reset(self) -> None:
        self.ended.clear()
        self.reached.clear()
        self.received = self.sent = 0

    def SegmentLarge(  # noqa: N802
        self, request_iterator: Iterator[pb.SegmentLargeRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.SegmentLargeResponse]:
        context.add_callback(self.ended.set)
        header = next(request_iterator).header
        if header.model == "deaf":
            self.reached.set()
            self.ended.wait(20)
            return
        for part in request_iterator:
            self.received += len(part.chunk)
            self.reached.set()
        yield pb.SegmentLargeResponse(size=pb.ImageSize(height=4, width=4))
        if header.model == "silent":
            self.ended.wait(20)
        if header.model == "endless":
            for _ in range(ENDLESS):
                yield pb.SegmentLargeResponse(mask_chunk=CHUNK)
                self.sent += 1
        yield pb.SegmentLargeResponse(mask_chunk=b"half of it")
        context.abort(grpc.StatusCode.DATA_LOSS, "the disk is gone")


@pytest.fixture(scope="module")
def standing_in() -> Iterator[tuple[str, Inference]]:
    """An inference service of this process, and where it listens."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    made: Any = Inference  # it answers one of the methods only
    servicer: Inference = made()
    rpc.add_SegmentationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    yield f"{HOST}:{port}", servicer
    server.stop(None).wait()


@pytest.fixture(scope="module")
def page(
    standing_in: tuple[str, Inference], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """The page over it."""
    with page_of(tmp_path_factory.mktemp("web"), inference=standing_in[0]) as started:
        yield started


@pytest.fixture
def inference(standing_in: tuple[str, Inference]) -> Inference:
    """It, with nothing seen yet."""
    standing_in[1].reset()
    return standing_in[1]


def slowly(inference: Inference, pieces: int) -> Iterator[bytes]:
    """A file that stops coming once the service has seen some of it."""
    for _ in range(pieces):
        yield CHUNK
    inference.reached.wait(20)
    raise KeyboardInterrupt


def test_who_goes_away_while_sending_ends_the_call(page: Page, inference: Inference) -> None:
    """Nobody works for a tab that was closed, even one that was still sending."""
    path, length = "/api/segment?model=silent", {"content-length": str(100 << 20)}
    with page.visitor() as visitor, pytest.raises(KeyboardInterrupt):
        visitor.post(path, content=slowly(inference, 2), headers=length)
    assert inference.ended.wait(5)


@pytest.mark.parametrize("path", ["/api/segment?model=silent", "/api/mask?model=silent"])
def test_who_goes_away_while_waiting_ends_the_call(
    page: Page, inference: Inference, path: str
) -> None:
    """Neither before the answer's first byte nor after it does the service go on."""
    with page.visitor() as visitor, pytest.raises(httpx.ReadTimeout):
        visitor.post(path, content=b"x", timeout=0.5)
    assert inference.ended.wait(5)


def test_a_service_that_reads_nothing_is_sent_nothing(page: Page, inference: Inference) -> None:
    """A large file waits in the browser, not in the page."""
    before = page.peak_memory_bytes()
    length = {"content-length": str(200 << 20)}
    with page.visitor() as visitor, pytest.raises((httpx.WriteTimeout, httpx.WriteError)):
        visitor.post(
            "/api/segment?model=deaf",
            content=(CHUNK for _ in range(200)),
            headers=length,
            timeout=1,
        )
    assert page.peak_memory_bytes() - before < 50 << 20
    inference.ended.set()


def test_who_reads_slowly_slows_the_service_down(page: Page, inference: Inference) -> None:
    """Answers that nobody takes stay where they are made."""
    before = page.peak_memory_bytes()
    with (
        page.visitor() as visitor,
        visitor.stream("POST", "/api/mask?model=endless", content=b"x") as answer,
    ):
        taken = answer.iter_raw(1 << 20)
        next(taken)
        time.sleep(1)
        assert inference.sent < ENDLESS // 4
    assert inference.ended.wait(5)
    assert page.peak_memory_bytes() - before < 50 << 20


def test_regions_that_break_off_say_why(page: Page, inference: Inference) -> None:
    """The last line is the error, and the answer ends well."""
    with page.visitor() as visitor:
        answer = visitor.post("/api/segment?model=breaks", content=b"x")
    *_, last = [json.loads(line) for line in answer.text.splitlines()]
    assert last["error"]["message"] == "the disk is gone"
    assert inference.received == 1


def test_half_a_mask_is_no_file(page: Page, inference: Inference) -> None:
    """The connection breaks off, so that no browser keeps what looks like a mask."""
    with page.visitor() as visitor, pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        visitor.post("/api/mask?model=breaks", content=b"x")
    assert inference.received == 1
    assert "mask_broke_off" in page.log.read_text()
    assert "Traceback" not in page.log.read_text()


def test_a_service_that_is_lost_and_found(s3: S3, tmp_path: Path) -> None:
    """Who asks meanwhile hears which one it is, and is served as soon as it is back."""
    bucket, store = bucket_of(s3)
    publish(store, student(), tmp_path)
    port, metrics = free_port(), free_port()
    environment = s3_environment(s3.settings, bucket=bucket) | {
        "HISTILL_AUTH__MODE": "none",
        "HISTILL_SERVER__PORT": str(port),
        "HISTILL_SERVER__METRICS_PORT": str(metrics),
        "HISTILL_SERVER__HEALTH_PORT": "-1",
        "HISTILL_AUDIT__FOLDER": str(tmp_path / "audit"),
    }

    def status(visitor: httpx.Client) -> int:
        return visitor.get("/api/served").status_code

    def started() -> Any:
        return running(
            "histill.inference", environment, port=port, metrics_port=metrics, folder=tmp_path
        )

    with (
        page_of(tmp_path, inference=f"{HOST}:{port}") as page,
        page.visitor() as visitor,
    ):
        with started() as service:
            wait_until_serving(service)
            assert status(visitor) == 200
            service.process.send_signal(signal.SIGTERM)
            service.process.wait(20)
        for path in ("/api/served", "/api/segment?model=nuclei"):
            answer = visitor.request("POST" if "?" in path else "GET", path, content=b"x")
            assert answer.status_code == 503
            assert answer.json()["error"]["message"] == (
                "the inference service does not answer; try again in a moment"
            )
        with started() as service:
            wait_until_serving(service)
            deadline = time.monotonic() + 5
            while status(visitor) != 200:
                assert time.monotonic() < deadline
