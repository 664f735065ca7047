"""For every method of registry and inference, requests that mean something of a name."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.registry.v1 import registry_service_pb2 as registry_pb
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    # Streams of requests that mean something of a name.
    Asks = Callable[[str], list[list[Message]]]

DARK = np.full((24, 24, 3), 10, np.uint8)


def _png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(DARK).save(out, "PNG")
    return out.getvalue()


PNG = _png()


def nobodys(name: str) -> str:
    """A name that nobody has: as long, and sorted where the other is."""
    return name[:-1] + "z"


def spellings(name: str) -> list[str]:
    """Every kind of reference to it, of versions that there are and are not."""
    return [name, f"{name}@1", f"{name}@2", f"{name}@9", f"{name}@chosen", f"{name}@other"]


def infer(name: str, version: str = "") -> v2.ModelInferRequest:
    made = v2.ModelInferRequest(model_name=name, model_version=version, id="1")
    made.inputs.add(name="image", datatype="UINT8", shape=(1, *DARK.shape))
    made.raw_input_contents.append(DARK.tobytes())
    return made


def large(name: str) -> list[Message]:
    header = pb.SegmentLargeHeader(model=name, size_bytes=len(PNG), format=pb.MASK_FORMAT_RAW)
    return [pb.SegmentLargeRequest(header=header), pb.SegmentLargeRequest(chunk=PNG)]


def raw(name: str) -> pb.SegmentRequest:
    return pb.SegmentRequest(model=name, encoded=PNG, format=pb.MASK_FORMAT_RAW)


def each_version(made: Callable[[str, str], Message]) -> Asks:
    """A request without a version, and with several."""
    return lambda name: [[made(name, at)] for at in ("", "1", "2", "9", "chosen", "other")]


def each_spelling(made: Callable[[str], Message]) -> Asks:
    return lambda name: [[made(each)] for each in spellings(name)]


REGISTRY = "/histill.api.registry.v1.RegistryService/"
ACCESS = "/histill.api.access.v1.AccessService/"
SEGMENTATION = "/histill.api.segmentation.v1.SegmentationService/"
OPEN = "/inference.GRPCInferenceService/"

# Methods that name something: another's is not found, by whatever reference.
NAMING: dict[str, Asks] = {
    REGISTRY + "GetModel": each_spelling(lambda at: registry_pb.GetModelRequest(reference=at)),
    REGISTRY + "DownloadModel": each_spelling(
        lambda at: registry_pb.DownloadModelRequest(reference=at)
    ),
    REGISTRY + "DeleteModel": lambda name: [
        [registry_pb.DeleteModelRequest(reference=f"{name}@{at}")] for at in (1, 2, 9)
    ],
    REGISTRY + "SetAlias": each_spelling(
        lambda at: registry_pb.SetAliasRequest(reference=at, alias="mine")
    ),
    REGISTRY + "DeleteAlias": lambda name: [
        [registry_pb.DeleteAliasRequest(model_name=name, alias=alias)]
        for alias in ("chosen", "other")
    ],
    REGISTRY + "GetDataset": lambda name: [
        [registry_pb.GetDatasetRequest(reference=at)] for at in (name, f"{name}@1", f"{name}@9")
    ],
    REGISTRY + "DeleteDataset": lambda name: [
        [registry_pb.DeleteDatasetRequest(reference=f"{name}@{at}")] for at in (1, 9)
    ],
    SEGMENTATION + "Segment": each_spelling(raw),
    SEGMENTATION + "SegmentLarge": lambda name: [large(each) for each in spellings(name)],
    OPEN + "ModelReady": each_version(lambda n, at: v2.ModelReadyRequest(name=n, version=at)),
    OPEN + "ModelMetadata": each_version(lambda n, at: v2.ModelMetadataRequest(name=n, version=at)),
    OPEN + "ModelConfig": each_version(lambda n, at: v2.ModelConfigRequest(name=n, version=at)),
    OPEN + "ModelStatistics": each_version(
        lambda n, at: v2.ModelStatisticsRequest(name=n, version=at)
    ),
    OPEN + "ModelInfer": each_version(infer),
    OPEN + "ModelStreamInfer": lambda name: [[infer(name), infer(name, "1")]],
    OPEN + "RepositoryModelLoad": each_spelling(
        lambda at: v2.RepositoryModelLoadRequest(model_name=at)
    ),
    OPEN + "RepositoryModelUnload": lambda name: [
        [v2.RepositoryModelUnloadRequest(model_name=name)]
    ],
}
# Methods that list: another's is not among what comes, and asking for it finds nothing.
LISTING: dict[str, Asks] = {
    REGISTRY + "ListModels": lambda name: [
        [registry_pb.ListModelsRequest()],
        [registry_pb.ListModelsRequest(model_name=name)],
        [registry_pb.ListModelsRequest(page_token=f"{name}@2", page_size=1)],
    ],
    REGISTRY + "ListDatasets": lambda name: [
        [registry_pb.ListDatasetsRequest()],
        [registry_pb.ListDatasetsRequest(page_token=f"{name}@2", page_size=1)],
    ],
    SEGMENTATION + "ListModels": lambda _: [[pb.ListModelsRequest()]],
    OPEN + "RepositoryIndex": lambda _: [
        [v2.RepositoryIndexRequest()],
        [v2.RepositoryIndexRequest(ready=True)],
    ],
    OPEN + "ModelStatistics": lambda _: [[v2.ModelStatisticsRequest()]],
}
# Methods that make something: a name that another has is as free as any.
MAKING = (REGISTRY + "UploadModel", REGISTRY + "UploadDataset")
# Methods of keys and of who calls, which have tests of their own.
KEYS = (ACCESS + "CreateKey", ACCESS + "ListKeys", ACCESS + "RevokeKey", ACCESS + "GetCaller")
# Methods that neither name nor list.
SILENT: dict[str, Message] = {
    OPEN + "ServerLive": v2.ServerLiveRequest(),
    OPEN + "ServerReady": v2.ServerReadyRequest(),
    OPEN + "ServerMetadata": v2.ServerMetadataRequest(),
}
