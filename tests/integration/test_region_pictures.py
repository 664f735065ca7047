"""Regions with what the model saw and how sure it was, from the real service."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from dicoms import dicom, volume
from dicoms import slide as dicom_slide
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.client.segmentation import Segmenter, large_parts
from histill.ml.decoding import decode
from histill.ml.images import fit_channels
from processes import wait_until_serving
from serving import bucket_of, inference
from slide_files import pyramid
from students import manifest, publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conftest import S3

APERIO = "Aperio Image Library v11\n"
SMALL, LARGE = (180, 200), (700, 900)
EXTRAS = ("picture", "confidence_map")
MOST_LOSS = 1.5  # of 255, in the mean, by JPEG; pictures that lie a pixel off differ by more than 2


def soft(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Soft clouds of another shape in each channel, uint8 [height, width, 3]."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    clouds = gaussian_filter(noise, (10, 10, 0))
    levels: np.ndarray = 128 + 45 * clouds / clouds.std()
    return levels.clip(0, 255).astype(np.uint8)


def written(pixels: np.ndarray, form: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


def deep_tiff(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, 200 * pixels[..., 0].astype(np.uint16), photometric="minisblack")
    return out.getvalue()


FILES = {
    "png": lambda size: written(soft(*size), "PNG"),
    "grey png": lambda size: written(soft(*size)[..., 0], "PNG"),
    "transparent png": lambda size: written(np.dstack([soft(*size), soft(*size)[..., 0]]), "PNG"),
    "jpeg": lambda size: written(soft(*size), "JPEG"),
    "grey 16-bit tiff": lambda size: deep_tiff(soft(*size)),
    "16-bit dicom": lambda size: dicom(
        16 * soft(*size)[..., 0].astype(np.uint16), WindowCenter=2000, WindowWidth=3000
    ),
    "dicom in colour": lambda size: dicom(soft(*size), kind="RGB"),
    "slide": lambda size: pyramid([soft(*size)], description=f"{APERIO}{size[1]}x{size[0]}"),
    "dicom slide": lambda size: dicom_slide(soft(*size)),
}


@pytest.fixture(scope="module")
def channel(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """To a service with small tiles, a student of colours and one of grey images."""
    bucket, store = bucket_of(s3)
    folder = tmp_path_factory.mktemp("regions")
    publish(store, student(), folder)
    grey = student(channels=1)
    publish(store, grey, folder, like=manifest(grey, name="grey", channels=1))
    with inference(
        s3, folder, bucket=bucket, preload='["nuclei","grey"]', tile="256", overlap="64"
    ) as it:
        wait_until_serving(it)
        with grpc.insecure_channel(it.target) as channel:
            yield channel


@pytest.fixture
def segmenter(channel: grpc.Channel) -> Segmenter:
    """The SDK's calls."""
    return Segmenter(channel, timeout_s=30)


def joined(
    regions: Sequence[pb.MaskRegion | pb.SegmentSummary], size: tuple[int, int], *, channels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask, picture and confidence map of all regions, each of which has its own rectangle."""
    covered = np.zeros(size, int)
    mask, sure = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    picture = np.zeros((*size, channels), np.uint8)
    for region in regions:
        assert isinstance(region, pb.MaskRegion)
        place = (
            slice(region.row, region.row + region.height),
            slice(region.column, region.column + region.width),
        )
        covered[place] += 1
        for data, whole in (
            (region.png, mask),
            (region.picture, picture),
            (region.confidence_map, sure),
        ):
            with Image.open(io.BytesIO(data)) as opened:
                assert opened.size == (region.width, region.height)
                whole[place] = np.asarray(opened).reshape(whole[place].shape)
    assert (covered == 1).all()
    return mask, picture, sure


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["one tile", "many tiles"])
@pytest.mark.parametrize("kind", FILES)
def test_regions_show_what_the_model_saw(
    segmenter: Segmenter, kind: str, size: tuple[int, int]
) -> None:
    """Of any file: the pixels within JPEG's loss, the mask and confidences of the whole image."""
    data = FILES[kind](size)
    *regions, summary = segmenter.regions(data, model="nuclei", picture=True, confidence_map=True)
    assert (len(regions) == 1) == (size == SMALL)
    assert isinstance(summary, pb.SegmentSummary)
    assert (summary.height, summary.width) == size
    mask, picture, sure = joined(regions, size, channels=3)
    with io.BytesIO(data) as file:
        seen = fit_channels(decode(file).pixels, 3)
    loss = np.abs(picture.astype(int) - seen)
    assert loss.mean() < MOST_LOSS
    whole = segmenter.segment(data, model="nuclei", confidence_map=True)
    for found, wanted in ((mask, whole.mask), (sure, whole.confidence_map)):
        with Image.open(io.BytesIO(wanted)) as opened:
            np.testing.assert_array_equal(found, np.asarray(opened))


def test_a_model_of_grey_images_sees_grey(segmenter: Segmenter) -> None:
    """The picture is what the model saw, not what the file holds."""
    *regions, _ = segmenter.regions(
        written(soft(*LARGE), "PNG"), model="grey", picture=True, confidence_map=True
    )
    _, picture, _ = joined(regions, LARGE, channels=1)
    wanted = fit_channels(soft(*LARGE), 1)
    assert np.abs(picture.astype(int) - wanted).mean() < MOST_LOSS


def test_regions_are_of_the_frame_that_was_asked_for(segmenter: Segmenter) -> None:
    """Each frame of a DICOM image has a picture of its own."""
    frames = np.stack([np.full((40, 60), value, np.uint16) for value in (100, 200)])
    data = volume(frames, WindowCenter=150, WindowWidth=200)
    means = []
    for frame in (1, 2):
        *regions, _ = segmenter.regions(
            data, model="nuclei", frame=frame, picture=True, confidence_map=True
        )
        means.append(joined(regions, (40, 60), channels=3)[1].mean())
    assert means[1] > means[0] + 100


@pytest.mark.parametrize(("asked", "other"), [EXTRAS, EXTRAS[::-1]])
def test_each_is_sent_alone_where_it_is_asked_for_alone(
    segmenter: Segmenter, asked: str, other: str
) -> None:
    """Nothing is sent that was not asked for."""
    region, _ = segmenter.regions(written(soft(*SMALL), "PNG"), model="nuclei", **{asked: True})
    assert getattr(region, asked)
    assert not getattr(region, other)


def answers(channel: grpc.Channel, *, regions: bool) -> list[pb.SegmentLargeResponse]:
    """Of a large image, to a client that knows nothing of pictures."""
    data = written(soft(*LARGE), "PNG")
    header = pb.SegmentLargeHeader(model="nuclei", size_bytes=len(data), regions=regions)
    stub = rpc.SegmentationServiceStub(channel)
    return list(stub.SegmentLarge(large_parts(header, io.BytesIO(data)), timeout=30))


def test_the_size_comes_first(channel: grpc.Channel) -> None:
    """Once, before all regions, each of which is followed by the share that is done."""
    first, *others, last = answers(channel, regions=True)
    assert (first.size.height, first.size.width) == LARGE
    assert last.WhichOneof("part") == "summary"
    kinds = [each.WhichOneof("part") for each in others]
    assert kinds == ["region", "progress"] * (len(others) // 2)
    assert not any(each.region.picture or each.region.confidence_map for each in others)


def test_a_mask_as_one_file_comes_without_a_size(channel: grpc.Channel) -> None:
    """The file says its size itself."""
    kinds = {each.WhichOneof("part") for each in answers(channel, regions=False)}
    assert kinds == {"progress", "mask_chunk", "summary"}


def test_pictures_without_regions_are_refused(channel: grpc.Channel) -> None:
    """Before the upload, with each field that is wrong and what to do."""
    header = pb.SegmentLargeHeader(
        model="nuclei", size_bytes=1 << 30, picture=True, confidence_map=True
    )
    stub = rpc.SegmentationServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.SegmentLarge(large_parts(header, io.BytesIO()), timeout=10))
    error = caught.value
    assert isinstance(error, grpc.Call)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    words = "comes with regions only; set regions too, or leave it out"
    assert error.details() == f"picture: {words}; confidence_map: {words}"
