"""Slides through the real service: streamed, by region, by level, within memory."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING

import grpc
import highdicom as hd
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, label

from dicoms import slide as dicom_slide
from dicoms import volume
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.client.segmentation import Segmenter, large_parts
from histill.core.errors import InvalidArgumentError, ResourceExhaustedError
from processes import wait_until_serving
from serving import bucket_of, inference
from slide_files import TILE, pyramid, sparse
from students import publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3
    from processes import Service

HEIGHT, WIDTH = 2300, 3100


def cloudy(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Dark and light clouds, uint8 [height, width, 3]."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    grey = np.clip(gaussian_filter(noise, 8) * 2000 + 128, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def service(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that holds images of at most seven million pixels whole."""
    bucket, store = bucket_of(s3)
    publish(store, student(), tmp_path_factory.mktemp("student"))
    folder = tmp_path_factory.mktemp("logs")
    with inference(
        s3, folder, bucket=bucket, preload='["nuclei"]', tile="512", max_pixels="7000000"
    ) as it:
        wait_until_serving(it)
        yield it


@pytest.fixture(scope="module")
def channel(service: Service) -> Iterator[grpc.Channel]:
    """A channel to it."""
    with grpc.insecure_channel(service.target) as channel:
        yield channel


@pytest.fixture
def segmenter(channel: grpc.Channel) -> Segmenter:
    """The SDK's calls."""
    return Segmenter(channel, timeout_s=60)


@pytest.fixture(scope="module")
def levels() -> list[np.ndarray]:
    """A picture of a few more pixels, and a smaller one behind it."""
    return [cloudy(HEIGHT, WIDTH), cloudy(HEIGHT // 4, WIDTH // 4, seed=1)]


@pytest.fixture(scope="module")
def slide(levels: list[np.ndarray]) -> bytes:
    """Both as a pyramid, as Aperio's scanners write it."""
    words = f"Aperio Image Library v11\n{WIDTH}x{HEIGHT} (256x256)|AppMag = 20|MPP = 0.5"
    return pyramid(levels, description=words)


def right(mask: np.ndarray, picture: np.ndarray) -> float:
    """Share of the pixels, of those that leave no doubt, that have the right class."""
    smooth = gaussian_filter(picture[..., 0].astype(np.float32), 1.5)
    sure = np.abs(smooth - 128) > 12
    return float(np.mean(mask[sure] == (smooth < 128)[sure]))


def test_the_mask_of_a_slide_streams_while_it_is_made(
    channel: grpc.Channel, slide: bytes, levels: list[np.ndarray]
) -> None:
    """Bytes of the PNG come before the last tile is computed; areas are in square millimetres."""
    header = pb.SegmentLargeHeader(model="nuclei", size_bytes=len(slide))
    mask, early, share, summary = b"", 0, 0.0, None
    stub = rpc.SegmentationServiceStub(channel)
    for part in stub.SegmentLarge(large_parts(header, io.BytesIO(slide)), timeout=60):
        match part.WhichOneof("part"):
            case "progress":
                assert part.progress > share
                share = part.progress
            case "mask_chunk":
                mask += part.mask_chunk
                early += share < 0.7
            case "summary":
                assert share == 1
                summary = part.summary
    assert early >= 2
    found = np.asarray(Image.open(io.BytesIO(mask)))
    assert right(found, levels[0]) > 0.999
    assert summary is not None
    nuclei = summary.classes[1]
    assert nuclei.pixels == found.sum()
    assert nuclei.area_mm2 == pytest.approx(found.sum() * 0.0005**2)
    assert nuclei.objects == label(found, np.ones((3, 3)))[1]


def test_regions_cover_the_slide_once(
    segmenter: Segmenter, slide: bytes, levels: list[np.ndarray]
) -> None:
    """Each is a PNG of its own, and together they are the mask."""
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    *regions, summary = segmenter.regions(slide, model="nuclei")
    assert isinstance(summary, pb.SegmentSummary)
    assert len(regions) > 20
    for region in regions:
        assert isinstance(region, pb.MaskRegion)
        rows = slice(region.row, region.row + region.height)
        columns = slice(region.column, region.column + region.width)
        assert (mask[rows, columns] == 255).all()
        mask[rows, columns] = np.asarray(Image.open(io.BytesIO(region.png)))
    assert right(mask, levels[0]) > 0.999
    assert summary.classes[1].pixels == mask.sum()


def test_polygons_of_a_slide_are_objects_of_its_mask(segmenter: Segmenter, slide: bytes) -> None:
    """GeoJSON that is written on the way has one feature an object, wherever tiles end."""
    out = io.BytesIO()
    found = segmenter.segment(slide, model="nuclei", mask_format="geojson", out=out)
    features = json.loads(out.getvalue())["features"]
    assert found.mask == b""
    assert len(features) == found.summary.classes[1].objects


def test_a_smaller_level_answers_in_its_own_pixels(
    segmenter: Segmenter, slide: bytes, levels: list[np.ndarray]
) -> None:
    """Level 1 is segmented whole; one that is not there is named."""
    found = segmenter.segment(slide, model="nuclei", level=1)
    mask = np.asarray(Image.open(io.BytesIO(found.mask)))
    assert mask.shape == levels[1].shape[:2]
    assert right(mask, levels[1]) > 0.999
    with pytest.raises(InvalidArgumentError, match=r"selection\.level.*levels 0 to 1"):
        segmenter.segment(slide, model="nuclei", level=2)


@pytest.mark.filterwarnings("ignore::UserWarning")  # highdicom's, of what it reads
@pytest.mark.parametrize("side", [600, 1200])
def test_a_dicom_slide_gives_a_seg_of_its_tiles(segmenter: Segmenter, side: int) -> None:
    """Small enough to be decoded whole or not: the SEG's total matrix is the PNG's mask."""
    data = dicom_slide(cloudy(side, side + 100))
    png = segmenter.segment(data, model="nuclei").mask
    mask = np.asarray(Image.open(io.BytesIO(png)))
    seg = segmenter.segment(data, model="nuclei", mask_format="dicom-seg").mask
    opened = hd.seg.segread(io.BytesIO(seg))
    found = opened.get_total_pixel_matrix(segment_numbers=[1], combine_segments=True)
    np.testing.assert_array_equal(found, mask)
    assert opened.SegmentSequence[0].SegmentLabel == "nuclei"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_stack_gives_a_seg_of_its_frames(segmenter: Segmenter) -> None:
    """Every frame for SEG, with those in which nothing was found on request; one for a PNG."""
    frames = np.stack([np.full((40, 60), value, np.uint16) for value in (100, 200, 100)])
    frames[:, :10] = 150
    data = volume(frames, WindowCenter=150, WindowWidth=100)
    for empty in (False, True):
        found = segmenter.segment(data, model="nuclei", mask_format="dicom-seg", empty_frames=empty)
        seg = hd.seg.segread(io.BytesIO(found.mask))
        assert seg.NumberOfFrames == (3 if empty else 2)
        assert found.summary.classes[1].pixels > 2 * 30 * 60
        assert found.summary.classes[1].objects == 2
    masks = [
        segmenter.segment(data, model="nuclei", frame=frame, mask_format="raw").mask
        for frame in (1, 2, 3)
    ]
    assert masks[0] == masks[2] != masks[1] == bytes(40 * 60)
    with pytest.raises(InvalidArgumentError, match=r"selection\.frame.*3 frames"):
        segmenter.segment(data, model="nuclei", frame=4)
    with pytest.raises(InvalidArgumentError, match=r"selection\.frame.*every frame"):
        segmenter.segment(data, model="nuclei", frame=2, mask_format="dicom-seg")


def test_masks_that_would_be_held_whole_are_refused(
    channel: grpc.Channel, segmenter: Segmenter, slide: bytes
) -> None:
    """Run lengths need all of a mask, and so does one message, which our SDK avoids."""
    with pytest.raises(ResourceExhaustedError, match="SegmentLarge"):
        segmenter.segment(slide, model="nuclei", mask_format="rle")
    stub = rpc.SegmentationServiceStub(channel)
    with pytest.raises(grpc.RpcError, match="SegmentLarge"):
        stub.Segment(pb.SegmentRequest(model="nuclei", encoded=slide), timeout=60)
    assert segmenter.segment(slide, model="nuclei").summary.height == HEIGHT


def test_memory_is_bounded_by_rows_of_tiles(service: Service, segmenter: Segmenter) -> None:
    """A slide of 120 million pixels costs a fraction of what its mask and confidences take."""
    tile = cloudy(TILE, TILE)
    segmenter.segment(sparse(2_000, 10_000, {}), model="nuclei", out=io.BytesIO())
    before = service.peak_memory_bytes()
    out = io.BytesIO()
    found = segmenter.segment(
        sparse(12_000, 10_000, {(40, 20): tile}), model="nuclei", mask_format="png", out=out
    )
    assert (found.summary.height, found.summary.width) == (12_000, 10_000)
    assert 0 < found.summary.classes[1].pixels < TILE**2
    assert service.peak_memory_bytes() - before < 60e6


def test_whoever_goes_away_frees_the_slot(channel: grpc.Channel, segmenter: Segmenter) -> None:
    """As many slides as may be in work are cancelled, and others take their places at once."""
    data = sparse(40_000, 40_000, {})
    header = pb.SegmentLargeHeader(model="nuclei", size_bytes=len(data), regions=True)
    stub = rpc.SegmentationServiceStub(channel)
    for _ in range(2 * (os.cpu_count() or 1)):
        call = stub.SegmentLarge(large_parts(header, io.BytesIO(data)), timeout=60)
        next(call)
        call.cancel()
    found = segmenter.segment(sparse(1_000, 1_000, {}), model="nuclei", out=io.BytesIO())
    assert found.summary.times.queue_ms < 5_000


def test_whoever_does_not_read_is_sent_away(s3: S3, tmp_path: Path) -> None:
    """A client that takes nothing more does not keep others out."""
    bucket, store = bucket_of(s3)
    publish(store, student(), tmp_path)
    data = sparse(20_000, 4_000, {})
    header = pb.SegmentLargeHeader(model="nuclei", size_bytes=len(data), format=pb.MASK_FORMAT_RAW)
    with inference(
        s3, tmp_path, bucket=bucket, workers="1", max_queue="4", upload_idle_s="1"
    ) as service:
        wait_until_serving(service)
        with grpc.insecure_channel(service.target) as channel:
            stub = rpc.SegmentationServiceStub(channel)
            silent = stub.SegmentLarge(large_parts(header, io.BytesIO(data)))
            next(silent)
            with grpc.insecure_channel(service.target) as other:
                segmenter = Segmenter(other, timeout_s=3)
                found = segmenter.segment(
                    sparse(1_000, 1_000, {}), model="nuclei", out=io.BytesIO()
                )
            assert found.summary.height == 1_000
            with pytest.raises(grpc.RpcError, match="no part of the answer was taken for 1 s"):
                list(silent)
