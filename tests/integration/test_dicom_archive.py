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

from conftest import HOST, free_port, wait_for_port
from foreign import CLIENTS, PYTHON, needs_clients, output_of
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
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


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="needs dicom3tools: dciodvfy")
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_a_validator_finds_no_error(service: Service, name: str, tmp_path: Path) -> None:
    """Dciodvfy knows what a Segmentation must hold."""
    seg, _ = segmented(service, path_of(name))
    path = tmp_path / "seg.dcm"
    path.write_bytes(seg)
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert "Segmentation" in said
    assert [line for line in said.splitlines() if line.startswith("Error")] == []


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
