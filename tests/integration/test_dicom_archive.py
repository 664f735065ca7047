"""Segmentations as other DICOM software takes them: a validator, and an archive."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGBaseline8Bit

from conftest import HOST, wait_for_port
from dicoms import slide
from foreign import CLIENTS, PYTHON, needs_clients, output_of
from free_ports import free_port
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.ml import decoding
from histill.ml.dicom_seg import dicom_seg
from histill.ml.dicom_slides import open_slide
from histill.ml.masks import MaskContext
from processes import Service, wait_until_serving
from serving import bucket_of, inference
from students import publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import S3

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.fixture(scope="module")
def service(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with one student."""
    folder = tmp_path_factory.mktemp("dicom")
    bucket, store = bucket_of(s3)
    publish(store, student(), folder)
    with inference(s3, folder, bucket=bucket, preload='["nuclei"]') as it:
        wait_until_serving(it)
        yield it


def path_of(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    if found is None:
        pytest.skip(f"this pydicom comes without {name}")
    return Path(str(found))


def segmented(service: Service, image: Path) -> tuple[bytes, np.ndarray]:
    """The SEG of a real file, and the mask that it must hold."""
    with grpc.insecure_channel(service.target) as channel:
        stub = rpc.SegmentationServiceStub(channel)
        request = pb.SegmentRequest(model="nuclei", encoded=image.read_bytes())
        request.format = pb.MASK_FORMAT_DICOM_SEG
        seg = stub.Segment(request, timeout=30).mask
        request.format = pb.MASK_FORMAT_RAW
        raw = stub.Segment(request, timeout=30)
    size = (raw.summary.height, raw.summary.width)
    return seg, np.frombuffer(raw.mask, np.uint8).reshape(size)


def plane(seg: pydicom.Dataset) -> np.ndarray:
    """The frames of the first segment together, [H, W]."""
    frames: np.ndarray = seg.pixel_array
    return frames if frames.ndim == 2 else frames.max(axis=0)


def volume_of(seg: pydicom.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    """The mask by the frames of the image that the SEG's frames refer to, [F, H, W]."""
    found = np.zeros(shape, np.uint8)
    planes = np.atleast_3d(seg.pixel_array.T).T
    for group, pixels in zip(seg.PerFrameFunctionalGroupsSequence, planes, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        found[int(source.ReferencedFrameNumber) - 1] |= pixels
    return found


def findings(path: Path) -> list[str]:
    """The errors that dciodvfy finds in a SEG."""
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert "Segmentation" in said
    return [line for line in said.splitlines() if line.startswith("Error")]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="needs dicom3tools: dciodvfy")
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_a_validator_finds_no_error(service: Service, name: str, tmp_path: Path) -> None:
    """Dciodvfy knows what a Segmentation must hold."""
    seg, _ = segmented(service, path_of(name))
    path = tmp_path / "seg.dcm"
    path.write_bytes(seg)
    assert findings(path) == []


# Frames in space, a film in JPEG, and one without places.
MANY = ["eCT_Supplemental.dcm", "examples_ybr_color.dcm", "emri_small_jpeg_ls_lossless.dcm"]


def seg_of_many(image: Path, *, empty: bool = False) -> tuple[bytes, np.ndarray]:
    """The SEG of a real file of several frames, and the mask that it must hold."""
    dataset = pydicom.dcmread(image)
    decoded = decoding.decode(io.BytesIO(image.read_bytes()))
    noise = np.random.default_rng(0)
    shape = (int(dataset.NumberOfFrames), *decoded.pixels.shape[:2])
    mask = (noise.random(shape) < 0.5).astype(np.uint8)
    mask[1] = 0
    context = MaskContext(decoded, ("background", "nuclei"), "nuclei@1", empty_frames=empty)
    return dicom_seg(mask, context), mask


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="needs dicom3tools: dciodvfy")
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("name", MANY)
def test_a_validator_finds_no_error_in_frames(name: str, tmp_path: Path, *, empty: bool) -> None:
    """Whether they lie in space or not, with empty ones and without."""
    seg, mask = seg_of_many(path_of(name), empty=empty)
    path = tmp_path / "seg.dcm"
    path.write_bytes(seg)
    assert findings(path) == []
    np.testing.assert_array_equal(volume_of(pydicom.dcmread(path), mask.shape), mask)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="needs dicom3tools: dciodvfy")
@pytest.mark.parametrize("missing", [None, (1, 4)])
def test_a_validator_finds_no_error_in_tiles(
    missing: tuple[int, ...] | None, tmp_path: Path
) -> None:
    """A slide's SEG is tiled as the slide is."""
    noise = np.random.default_rng(0)
    pixels = noise.integers(0, 256, (500, 700, 3), dtype=np.uint8)
    it = open_slide(io.BytesIO(slide(pixels, missing=missing, syntax=JPEGBaseline8Bit)))
    mask = np.zeros((500, 700), np.uint8)
    mask[100:300, 200:600] = 1
    path = tmp_path / "seg.dcm"
    path.write_bytes(dicom_seg(mask, MaskContext(it, ("background", "nuclei"), "nuclei@1")))
    assert findings(path) == []


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_pydicom_reads_the_mask_back(service: Service, name: str) -> None:
    """The mask is unchanged, and the SEG names its image."""
    image = path_of(name)
    seg, mask = segmented(service, image)
    made, source = pydicom.dcmread(io.BytesIO(seg)), pydicom.dcmread(image)
    np.testing.assert_array_equal(plane(made), mask)
    assert 0 < mask.mean() < 1
    assert made.StudyInstanceUID == source.StudyInstanceUID
    referenced = made.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert referenced.ReferencedSOPInstanceUID == source.SOPInstanceUID


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[str]:
    """A running Orthanc with DICOMweb: its address."""
    binary = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if not binary or not PLUGIN.exists():
        pytest.skip("needs orthanc and orthanc-dicomweb")
    http, dimse = free_port(), free_port()
    settings = {
        "StorageDirectory": str(tmp_path / "storage"),
        "IndexDirectory": str(tmp_path / "index"),
        "HttpPort": http,
        "DicomPort": dimse,
        "RemoteAccessAllowed": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with (tmp_path / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([binary, tmp_path / "orthanc.json"], stdout=log, stderr=log)
    try:
        wait_for_port(http)
        yield f"http://{HOST}:{http}/dicom-web"
    finally:
        process.terminate()
        process.wait(20)


@needs_clients
def test_an_archive_keeps_it(service: Service, archive: str, tmp_path: Path) -> None:
    """Stored beside its image, found, and fetched again with the mask unchanged."""
    image = path_of("CT_small.dcm")
    seg, mask = segmented(service, image)
    path, back = tmp_path / "seg.dcm", tmp_path / "back.dcm"
    path.write_bytes(seg)
    told = output_of(PYTHON, CLIENTS / "dicomweb.py", archive, image, path, back)
    made = pydicom.dcmread(back)
    assert told == {
        "stored": 2,
        "found": [made.SOPInstanceUID],
        "modalities": ["CT", "SEG"],
    }
    np.testing.assert_array_equal(plane(made), mask)


@needs_clients
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", MANY[:2])
def test_an_archive_keeps_many_frames(name: str, archive: str, tmp_path: Path) -> None:
    """Fetched again, every frame refers to the frame of the image that it came from."""
    image = path_of(name)
    seg, mask = seg_of_many(image)
    path, back = tmp_path / "seg.dcm", tmp_path / "back.dcm"
    path.write_bytes(seg)
    told = output_of(PYTHON, CLIENTS / "dicomweb.py", archive, image, path, back)
    assert told["stored"] == 2
    assert "SEG" in told["modalities"]
    np.testing.assert_array_equal(volume_of(pydicom.dcmread(back), mask.shape), mask)
