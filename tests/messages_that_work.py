"""One request of each method that gets far, and values that mean something where they stand."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from safetensors.numpy import save

from histill.api.distillation.v1 import distillation_service_pb2 as jobs
from histill.api.distillation.v1 import job_pb2
from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.registry.v1 import dataset_pb2, model_pb2
from histill.api.registry.v1 import registry_service_pb2 as registry
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from pictures import blobs

if TYPE_CHECKING:
    from google.protobuf.message import Message


def _png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(blobs(1)[0]).save(out, "PNG")
    return out.getvalue()


PNG = _png()
WEIGHTS = save({"w": np.arange(10, dtype=np.float32)})
_PIXELS = bytes(24 * 24 * 3)
_REFERENCES = ("nuclei", "nuclei@1", "nuclei@best", "nuclei@9", "discs", "discs@1", "none")
HINTS: dict[str, tuple[Any, ...]] = {
    "reference": _REFERENCES,
    "model": _REFERENCES,
    "model_name": ("nuclei", "other"),
    "model_version": ("", "1", "best"),
    "name": ("nuclei", "image", "mask", "confidence", "jobs/0123456789abcdef0123"),
    "version": ("", "1", "best"),
    "dataset": ("discs", "discs@1"),
    "dataset_name": ("discs", "other"),
    "output_model": ("made",),
    "teachers": ("nuclei@1", "nuclei"),
    "page_token": _REFERENCES,
    "alias": ("best", "new"),
    "encoded": (PNG, PNG[:-20], PNG[:40]),
    "chunk": (PNG, WEIGHTS),
    "data": (_PIXELS, PNG, WEIGHTS),
    "raw_input_contents": (_PIXELS, _PIXELS[:-1]),
    "datatype": ("UINT8", "FP32"),
    "shape": (0, 1, 3, 24, -1, 1 << 20, 2**62),
    "height": (0, 1, 24, 1 << 20, 2**31 - 1),
    "width": (0, 1, 24, 1 << 20, 2**31 - 1),
    "channels": (1, 3, 64),
    "size_bytes": (len(PNG), len(WEIGHTS), 2**62),
    "path": ("weights.safetensors", "model.onnx", "model.ts", "../x", "manifest.json"),
    "paths": ("model.onnx", "../x"),
    "network_json": ('{"architecture": "unet"}', '{"architecture": "unet", "width": 1e999}'),
    "sha256": (hashlib.sha256(WEIGHTS).hexdigest(),),
    "classes": ("background", "object", "nuclei"),
    "architecture": ("unet", "lenet5"),
    "after_event_id": ("", "0-0", "1-1"),
    "repository_name": ("",),
    "task": ("", "segmentation", "classification"),
    "key": ("priority", "timeout", "train", "val", "unload_dependents"),
}


def _file(path: str, data: bytes) -> model_pb2.ArtifactFile:
    digest = hashlib.sha256(data).hexdigest()
    return model_pb2.ArtifactFile(path=path, size_bytes=len(data), sha256=digest)


def _infer() -> v2.ModelInferRequest:
    made = v2.ModelInferRequest(model_name="nuclei")
    made.inputs.add(name="image", datatype="UINT8", shape=(1, 24, 24, 3))
    made.raw_input_contents.append(_PIXELS)
    made.parameters["priority"].int64_param = 1
    return made


def _upload_model() -> list[Message]:
    header = registry.ModelHeader(
        model_name="pushed",
        role=model_pb2.MODEL_ROLE_TEACHER,
        channels=3,
        classes=["background", "object"],
        mean=[0.5] * 3,
        std=[0.2] * 3,
        files=[_file("weights.safetensors", WEIGHTS)],
    )
    chunk = registry.FileChunk(path="weights.safetensors", data=WEIGHTS)
    return [registry.UploadModelRequest(header=header), registry.UploadModelRequest(chunk=chunk)]


def _upload_dataset() -> list[Message]:
    header = registry.DatasetHeader(
        dataset_name="pushed",
        classes=["background", "object"],
        channels=3,
        label_kind=dataset_pb2.LABEL_KIND_SEMANTIC,
        splits={"train": 1, "val": 1},
        files=[_file("shard-00000.tar", PNG)],
    )
    chunk = registry.FileChunk(path="shard-00000.tar", data=PNG)
    return [
        registry.UploadDatasetRequest(header=header),
        registry.UploadDatasetRequest(chunk=chunk),
    ]


def _large() -> list[Message]:
    header = pb.SegmentLargeHeader(model="nuclei", size_bytes=len(PNG))
    return [pb.SegmentLargeRequest(header=header), pb.SegmentLargeRequest(chunk=PNG)]


def _jobs() -> list[Message]:
    made = [job_pb2.Job(display_name="a") for _ in range(3)]
    made[0].supervised.dataset, made[0].supervised.output_model = "discs", "made"
    made[1].multi_teacher.dataset, made[1].multi_teacher.output_model = "discs", "made"
    made[1].multi_teacher.teachers.append("nuclei@1")
    made[2].data_free.output_model = "made"
    made[2].data_free.teachers.append("nuclei@1")
    return [jobs.CreateJobRequest(job=each) for each in made]


_RAW = pb.RawImage(data=_PIXELS, height=24, width=24, channels=3)
_SEEDS: dict[str, list[list[Message]]] = {
    "UploadModel": [_upload_model()],
    "UploadDataset": [_upload_dataset()],
    "Segment": [
        [pb.SegmentRequest(model="nuclei", encoded=PNG)],
        [pb.SegmentRequest(model="nuclei", raw=_RAW, format=pb.MASK_FORMAT_GEOJSON)],
        [pb.SegmentRequest(model="nuclei", encoded=PNG, format=pb.MASK_FORMAT_RLE)],
    ],
    "SegmentLarge": [_large()],
    "ModelInfer": [[_infer()]],
    "ModelStreamInfer": [[_infer(), _infer()]],
    "CreateJob": [[each] for each in _jobs()],
}


def seeds(path: str) -> list[list[Message]]:
    """Streams of requests that a method answers, where noise would not get past its checks."""
    return _SEEDS.get(path.rpartition("/")[2], [])
