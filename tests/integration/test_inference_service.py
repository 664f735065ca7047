"""The inference service as a real process over a real S3 server, with hand-made students."""

from __future__ import annotations

import concurrent.futures
import gzip
import io
import json
import re
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from conftest import end, run_s3
from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.inference.v2 import grpc_service_pb2_grpc as v2_rpc
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.core import catalog
from histill.core.names import parse_reference
from histill.ml.appearance import appearance_of
from pictures import blobs
from processes import (
    HOST,
    Service,
    wait_for_words,
    wait_until_serving,
)
from serving import bucket_of, inference, keep_asking
from students import manifest, publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3
    from histill.adapters.s3 import S3ObjectStore

MEBIBYTE = 1 << 20


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


@pytest.fixture(scope="module")
def shelf(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, S3ObjectStore]:
    """A bucket with one student, nuclei@1."""
    name, store = bucket_of(s3)
    publish(store, student(), tmp_path_factory.mktemp("student"))
    return name, store


@pytest.fixture(scope="module")
def service(
    s3: S3, shelf: tuple[str, S3ObjectStore], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A ready service."""
    with inference(
        s3, tmp_path_factory.mktemp("logs"), bucket=shelf[0], preload='["nuclei"]'
    ) as it:
        wait_until_serving(it)
        yield it


@pytest.fixture(scope="module")
def channel(service: Service) -> Iterator[grpc.Channel]:
    """A channel to it."""
    with grpc.insecure_channel(service.target) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> rpc.SegmentationServiceStub:
    """Its segmentation service."""
    return rpc.SegmentationServiceStub(channel)


def parts(
    data: bytes, *, model: str = "nuclei", size: int | None = None
) -> Iterator[pb.SegmentLargeRequest]:
    header = pb.SegmentLargeHeader(model=model, size_bytes=len(data) if size is None else size)
    yield pb.SegmentLargeRequest(header=header)
    for start in range(0, len(data), MEBIBYTE):
        yield pb.SegmentLargeRequest(chunk=data[start : start + MEBIBYTE])


def failure(call: Any) -> grpc.Call:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert isinstance(caught.value, grpc.Call)
    return caught.value


def test_segments_a_png(stub: rpc.SegmentationServiceStub) -> None:
    """Dark discs come back as the class of dark pixels, with summary and times."""
    image, truth = blobs(3, side=100)
    answer = stub.Segment(
        pb.SegmentRequest(model="nuclei@1", encoded=png(image), confidence_map=True), timeout=10
    )
    mask = np.asarray(Image.open(io.BytesIO(answer.mask)))
    assert mask.shape == truth.shape
    assert np.mean(mask == truth) > 0.95
    summary = answer.summary
    assert (summary.model, summary.height, summary.width) == ("nuclei@1", 100, 100)
    assert [each.class_name for each in summary.classes] == ["background", "nuclei"]
    assert sum(each.pixels for each in summary.classes) == 10_000
    assert summary.classes[1].objects >= 1
    assert 0.5 < summary.mean_confidence <= 1
    assert summary.times.compute_ms > 0
    assert Image.open(io.BytesIO(answer.confidence_map)).size == (100, 100)


def test_segments_a_single_pixel(stub: rpc.SegmentationServiceStub) -> None:
    """An image of 1 x 1 is padded to the stride and cut back."""
    dark = np.zeros((1, 1, 3), np.uint8)
    answer = stub.Segment(
        pb.SegmentRequest(model="nuclei", encoded=png(dark), format=pb.MASK_FORMAT_RAW), timeout=10
    )
    assert answer.mask == b"\x01"


def test_the_size_of_a_pixel_can_be_given(stub: rpc.SegmentationServiceStub) -> None:
    """What the file does not say makes areas, and outlines in micrometres, gzip-compressed."""
    image, _ = blobs(3, side=100)
    request = pb.SegmentRequest(
        model="nuclei",
        encoded=png(image),
        format=pb.MASK_FORMAT_GEOJSON,
        geojson=pb.GeoJsonOptions(tolerance=1, gzip=True, micrometres=True),
        priority=pb.PRIORITY_STAT,
    )
    error = failure(lambda: stub.Segment(request, timeout=10))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "give pixel_size_um" in (error.details() or "")
    request.pixel_size_um = 0.5
    answer = stub.Segment(request, timeout=10)
    nuclei = answer.summary.classes[1]
    assert nuclei.area_mm2 == pytest.approx(nuclei.pixels * 0.0005**2)
    found = json.loads(gzip.decompress(answer.mask))["features"]
    corners = [c for each in found for ring in each["geometry"]["coordinates"] for c in ring]
    assert 0 < max(x for x, _ in corners) <= 50
    request.geojson.tolerance = -1
    error = failure(lambda: stub.Segment(request, timeout=10))
    assert "geojson.tolerance" in (error.details() or "")
    request.geojson.tolerance, request.priority = 1, 7  # type: ignore[assignment]
    error = failure(lambda: stub.Segment(request, timeout=10))
    assert "priority: 7 is not a priority" in (error.details() or "")


def test_an_image_of_another_kind_is_flagged(
    shelf: tuple[str, S3ObjectStore], stub: rpc.SegmentationServiceStub, tmp_path: Path
) -> None:
    """A model that knows what its images look like says how unlike one is; others say nothing."""
    pictures = [blobs(seed, side=64)[0] for seed in range(12)]
    like = manifest(student(), name="knowing").model_copy(
        update={"appearance": appearance_of(pictures[:8], pictures[8:])}
    )
    publish(shelf[1], student(), tmp_path, like=like)
    usual = pb.SegmentRequest(model="knowing", encoded=png(blobs(99, side=64)[0]))
    found = stub.Segment(usual, timeout=10).summary
    assert 0 < found.unfamiliarity < 1.5
    assert not found.out_of_distribution
    strange = pb.SegmentRequest(model="knowing", encoded=png(np.zeros((64, 64, 3), np.uint8)))
    found = stub.Segment(strange, timeout=10).summary
    assert found.unfamiliarity > 1.5
    assert found.out_of_distribution
    strange.model = "nuclei"
    found = stub.Segment(strange, timeout=10).summary
    assert (found.unfamiliarity, found.out_of_distribution) == (0, False)


def test_raw_pixels_need_no_file(stub: rpc.SegmentationServiceStub) -> None:
    """Raw bytes with their sides are segmented like a file of the same pixels."""
    image, _ = blobs(4, side=30)
    raw = pb.RawImage(data=image.tobytes(), height=30, width=30, channels=3)
    by_raw = stub.Segment(pb.SegmentRequest(model="nuclei", raw=raw), timeout=10)
    by_file = stub.Segment(pb.SegmentRequest(model="nuclei", encoded=png(image)), timeout=10)
    assert by_raw.mask == by_file.mask


def test_a_large_image_streams(service: Service, stub: rpc.SegmentationServiceStub) -> None:
    """5000 x 5000 pixels through SegmentLarge: growing progress, right mask, bounded memory."""
    noise = np.random.default_rng(0).normal(size=(5000, 5000)).astype(np.float32)
    grey = np.clip(gaussian_filter(noise, 8) * 2000 + 128, 0, 255).astype(np.uint8)
    data = png(np.repeat(grey[..., None], 3, axis=2))
    progress, mask, summary = [], bytearray(), None
    for part in stub.SegmentLarge(parts(data), timeout=120):
        match part.WhichOneof("part"):
            case "progress":
                progress.append(part.progress)
            case "summary":
                summary = part.summary
            case "mask_chunk":
                assert summary is None
                assert len(part.mask_chunk) <= MEBIBYTE
                mask += part.mask_chunk
    assert summary is not None
    assert (summary.height, summary.width) == (5000, 5000)
    assert progress == sorted(progress)
    assert progress[-1] == 1
    found = np.asarray(Image.open(io.BytesIO(mask)))
    smooth = gaussian_filter(grey.astype(np.float32), 1.5)
    sure = np.abs(smooth - 128) > 12
    assert np.mean(found[sure] == (smooth < 128)[sure]) > 0.999
    # The image takes 75 MB, and as much again while it is decoded; of the rest only rows of
    # tiles are held. Whole probabilities alone would be 200.
    assert service.peak_memory_bytes() < 700e6, service.peak_memory_bytes()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (b"GIF89a" + bytes(100), "unknown format; send a PNG, JPEG, TIFF or DICOM file"),
        (b"%PDF-1.7" + bytes(200), "unknown format"),
        (png(blobs(1)[0])[:900], "PNG file is truncated"),
    ],
)
def test_files_that_are_no_images(
    stub: rpc.SegmentationServiceStub, data: bytes, words: str
) -> None:
    """Other formats, empty and truncated files are INVALID_ARGUMENT with words for people."""
    error = failure(
        lambda: stub.Segment(pb.SegmentRequest(model="nuclei", encoded=data), timeout=10)
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in (error.details() or "")


def test_no_image_at_all(stub: rpc.SegmentationServiceStub) -> None:
    """A request without an image says which fields to set."""
    error = failure(lambda: stub.Segment(pb.SegmentRequest(model="nuclei"), timeout=10))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "encoded or raw" in (error.details() or "")


@pytest.mark.parametrize("model", ["nobody", "nuclei@9", "nuclei@production"])
def test_models_that_do_not_exist(stub: rpc.SegmentationServiceStub, model: str) -> None:
    """Unknown names, versions and aliases are NOT_FOUND, also before an upload."""
    image = png(blobs(1)[0])
    error = failure(lambda: stub.Segment(pb.SegmentRequest(model=model, encoded=image), timeout=10))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    error = failure(lambda: list(stub.SegmentLarge(parts(image, model=model), timeout=10)))
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_dicom_seg_of_a_png(stub: rpc.SegmentationServiceStub) -> None:
    """DICOM SEG of an image that is not DICOM is INVALID_ARGUMENT, before any work."""
    request = pb.SegmentRequest(
        model="nuclei", encoded=png(blobs(1)[0]), format=pb.MASK_FORMAT_DICOM_SEG
    )
    error = failure(lambda: stub.Segment(request, timeout=10))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (error.details() or "").startswith("format:")


def test_streams_that_break_their_word(stub: rpc.SegmentationServiceStub) -> None:
    """A stream without header, too long, too short or without a size is INVALID_ARGUMENT."""
    data = png(blobs(1)[0])
    for wrong in (
        iter([]),
        iter([pb.SegmentLargeRequest(chunk=data)]),
        parts(data, size=len(data) - 1),
        parts(data, size=len(data) + 1),
        parts(data, size=0),
    ):
        error = failure(lambda wrong=wrong: list(stub.SegmentLarge(wrong, timeout=10)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error.details()


def test_lists_what_is_served(stub: rpc.SegmentationServiceStub) -> None:
    """ListModels tells the versions, their classes, and which are warm."""
    found = {each.reference: each for each in stub.ListModels(pb.ListModelsRequest()).models}
    assert found["nuclei@1"].loaded
    assert list(found["nuclei@1"].classes) == ["background", "nuclei"]


def test_stages_are_measured(service: Service, stub: rpc.SegmentationServiceStub) -> None:
    """Every stage has a histogram labelled with project and model and nothing narrower."""
    stub.Segment(pb.SegmentRequest(model="nuclei@1", encoded=png(blobs(1)[0])), timeout=10)
    url = f"http://{HOST}:{service.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        text = response.read().decode()
    of = 'model="nuclei",project="default"'
    for stage in ("decode", "queue", "compute", "encode"):
        assert f'histill_inference_stage_seconds_count{{{of},stage="{stage}"}}' in text
    assert f"histill_inference_batch_size_count{{{of}}}" in text
    assert re.search(r"^histill_models_loaded [1-9]", text, re.MULTILINE)


def test_open_inference_protocol(channel: grpc.Channel) -> None:
    """Metadata, readiness and a batch of odd sides, with raw and with typed contents."""
    stub = v2_rpc.GRPCInferenceServiceStub(channel)
    assert stub.ServerLive(v2.ServerLiveRequest()).live
    assert stub.ServerReady(v2.ServerReadyRequest()).ready
    assert stub.ServerMetadata(v2.ServerMetadataRequest()).name == "histill"
    assert stub.ModelReady(v2.ModelReadyRequest(name="nuclei", version="1")).ready
    metadata = stub.ModelMetadata(v2.ModelMetadataRequest(name="nuclei"))
    assert [(each.name, each.datatype) for each in metadata.inputs] == [("image", "UINT8")]
    assert [each.name for each in metadata.outputs] == ["mask", "confidence"]
    assert list(metadata.versions) == ["1"]

    batch = np.stack([blobs(seed, side=37)[0][:29] for seed in range(3)])
    request = v2.ModelInferRequest(model_name="nuclei", id="abc")
    request.inputs.add(name="image", datatype="UINT8", shape=batch.shape)
    request.raw_input_contents.append(batch.tobytes())
    answer = stub.ModelInfer(request)
    assert (answer.model_name, answer.model_version, answer.id) == ("nuclei", "1", "abc")
    assert [list(each.shape) for each in answer.outputs] == [[3, 29, 37]] * 2
    mask = np.frombuffer(answer.raw_output_contents[0], np.uint8).reshape(3, 29, 37)
    confidence = np.frombuffer(answer.raw_output_contents[1], np.float32)
    assert 0.02 < mask.mean() < 0.6
    assert confidence.min() >= 0.5
    assert confidence.max() <= 1

    request.ClearField("raw_input_contents")
    request.inputs[0].contents.uint_contents.extend(batch.ravel().tolist())
    request.outputs.add(name="mask")
    typed = stub.ModelInfer(request)
    assert list(typed.raw_output_contents) == [mask.tobytes()]

    request.inputs[0].shape[1] = 28
    error = failure(lambda: stub.ModelInfer(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_deadline_that_has_passed(
    s3: S3, shelf: tuple[str, S3ObjectStore], tmp_path: Path
) -> None:
    """A call whose deadline ends while it waits is DEADLINE_EXCEEDED and never computed."""
    small = {"tile": "256", "overlap": "64", "preload": '["nuclei"]'}
    with inference(s3, tmp_path, bucket=shelf[0], **small) as service:
        wait_until_serving(service)
        with grpc.insecure_channel(service.target) as channel:
            stub = rpc.SegmentationServiceStub(channel)
            large = png(np.zeros((3000, 3000, 3), np.uint8))
            busy = stub.Segment.future(pb.SegmentRequest(model="nuclei", encoded=large), timeout=60)
            second = pb.SegmentRequest(model="nuclei", encoded=large)
            error = failure(lambda: stub.Segment(second, timeout=0.4))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert busy.result().summary.height == 3000
            url = f"http://{HOST}:{service.metrics_port}/metrics"
            with urllib.request.urlopen(url, timeout=10) as response:
                text = response.read().decode()
            assert (
                'stage_seconds_count{model="nuclei",project="default",stage="compute"} 1.0' in text
            )


def test_overload_is_refused_at_once(
    s3: S3, shelf: tuple[str, S3ObjectStore], tmp_path: Path
) -> None:
    """Beyond the queue RESOURCE_EXHAUSTED comes early, with RetryInfo; the others succeed."""
    with inference(
        s3, tmp_path, bucket=shelf[0], preload='["nuclei"]', workers="1", max_queue="1"
    ) as service:
        wait_until_serving(service)
        with grpc.insecure_channel(service.target) as channel:
            stub = rpc.SegmentationServiceStub(channel)
            large = png(np.zeros((2500, 2500, 3), np.uint8))
            request = pb.SegmentRequest(model="nuclei", encoded=large)
            calls = [stub.Segment.future(request, timeout=60) for _ in range(2)]
            time.sleep(0.3)
            began = time.monotonic()
            error = failure(lambda: stub.Segment(request, timeout=60))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert time.monotonic() - began < 1
            assert any("RetryInfo" in str(value) for _, value in error.trailing_metadata() or ())
            assert all(call.result().summary.height == 2500 for call in calls)
            # The places are free again, also after a caller went away.
            gone = stub.Segment.future(request, timeout=60)
            time.sleep(0.1)
            gone.cancel()
            assert stub.Segment(request, timeout=60).summary.height == 2500


def test_an_alias_moves_without_a_failed_request(
    shelf: tuple[str, S3ObjectStore], service: Service, tmp_path: Path
) -> None:
    """While @stable moves from one version to the next, every request is answered by one."""
    _, store = shelf
    like = manifest(student(), name="moving")
    first = publish(store, student(), tmp_path, like=like)
    second = publish(store, student(dark_is=0), tmp_path, like=like)
    catalog.set_alias(store, parse_reference(first.reference, field=""), "stable")
    image = png(np.zeros((16, 16, 3), np.uint8))
    request = pb.SegmentRequest(model="moving@stable", encoded=image, format=pb.MASK_FORMAT_RAW)
    expected = {"moving@1": b"\x01" * 256, "moving@2": b"\x00" * 256}
    stop = threading.Event()

    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        asking = [threads.submit(keep_asking, service, request, expected, stop) for _ in range(3)]
        time.sleep(0.5)
        catalog.set_alias(store, parse_reference(second.reference, field=""), "stable")
        time.sleep(1.5)
        stop.set()
        answers = [each.result() for each in asking]
    for seen in answers:
        assert seen[0] == "moving@1"
        assert seen[-1] == "moving@2"


def test_a_corrupt_new_version_takes_no_traffic(
    shelf: tuple[str, S3ObjectStore], service: Service, tmp_path: Path
) -> None:
    """Bytes that differ from the manifest are refused as such; the alias's old version stays."""
    _, store = shelf
    like = manifest(student(), name="damaged")
    first = publish(store, student(), tmp_path, like=like)
    second = publish(store, student(dark_is=0), tmp_path, like=like)
    store.put("models/damaged/2/model.onnx", student(dark_is=0)[:-1] + b"!")
    catalog.set_alias(store, parse_reference(first.reference, field=""), "stable")
    image = png(np.zeros((16, 16, 3), np.uint8))
    with grpc.insecure_channel(service.target) as channel:
        stub = rpc.SegmentationServiceStub(channel)
        good = pb.SegmentRequest(model="damaged@stable", encoded=image)
        assert stub.Segment(good, timeout=10).summary.model == "damaged@1"
        bad = pb.SegmentRequest(model=second.reference, encoded=image)
        error = failure(lambda: stub.Segment(bad, timeout=10))
        assert error.code() is grpc.StatusCode.DATA_LOSS
        assert "sha256" in (error.details() or "")
        catalog.set_alias(store, parse_reference(second.reference, field=""), "stable")
        time.sleep(1)
        assert stub.Segment(good, timeout=10).summary.model == "damaged@1"


def test_an_artifact_that_is_no_model(
    shelf: tuple[str, S3ObjectStore], service: Service, tmp_path: Path
) -> None:
    """A file with the right digest that ONNX Runtime cannot load is refused with the reason."""
    _, store = shelf
    made = publish(store, b"no model", tmp_path, like=manifest(b"", name="garbage"))
    with grpc.insecure_channel(service.target) as channel:
        stub = rpc.SegmentationServiceStub(channel)
        request = pb.SegmentRequest(model=made.reference, encoded=png(blobs(1)[0]))
        error = failure(lambda: stub.Segment(request, timeout=10))
        assert error.code() is grpc.StatusCode.DATA_LOSS
        assert "garbage@1/model.onnx cannot be served" in (error.details() or "")


def test_without_s3_it_is_not_ready_but_serves_what_is_loaded(tmp_path: Path) -> None:
    """When S3 dies, health says NOT_SERVING and loaded models still answer; then it recovers."""
    own = run_s3(tmp_path / "s3")
    try:
        bucket, store = bucket_of(own)
        publish(store, student(), tmp_path)
        with inference(own, tmp_path, bucket=bucket, preload='["nuclei@1"]') as service:
            wait_until_serving(service)
            end(own.server)
            wait_until_serving(service, expected=False)
            with grpc.insecure_channel(service.target) as channel:
                stub = rpc.SegmentationServiceStub(channel)
                image = png(np.zeros((8, 8, 3), np.uint8))
                request = pb.SegmentRequest(model="nuclei@1", encoded=image)
                assert stub.Segment(request, timeout=10).summary.model == "nuclei@1"
            own = run_s3(tmp_path / "s3", port=int(own.settings.endpoint.split(":")[1]))
            wait_until_serving(service)
    finally:
        end(own.server)


def test_a_missing_preloaded_model_is_not_ready(s3: S3, tmp_path: Path) -> None:
    """A service that waits for a model is up but not ready, and says so in its log."""
    bucket, store = bucket_of(s3)
    with inference(s3, tmp_path, bucket=bucket, preload='["late"]') as service:
        wait_for_words(service, "not loaded yet: late")
        wait_until_serving(service, expected=False)
        publish(store, student(), tmp_path, like=manifest(b"", name="late"))
        wait_until_serving(service)


@pytest.mark.data
def test_a_real_image(stub: rpc.SegmentationServiceStub, data_dir: Path) -> None:
    """A real pathology tile goes through in every format that is not DICOM's."""
    path = next((data_dir / "nuclei-he" / "val" / "images").glob("*.png"))
    for form in (pb.MASK_FORMAT_PNG, pb.MASK_FORMAT_GEOJSON, pb.MASK_FORMAT_RLE):
        request = pb.SegmentRequest(model="nuclei", encoded=path.read_bytes(), format=form)
        answer = stub.Segment(request, timeout=10)
        assert answer.mask
        assert answer.summary.format == form
