"""GRPCInferenceService of the Open Inference Protocol v2, for clients made for Triton."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from histill.api.inference.v2 import grpc_service_pb2 as pb
from histill.api.inference.v2 import grpc_service_pb2_grpc as rpc
from histill.core.errors import HistillError
from histill.inference import tensors
from histill.inference.servicer import deadline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import grpc

    from histill.inference.directory import Directory
    from histill.inference.listing import Listing
    from histill.inference.segmenter import Segmenter

    Context = grpc.aio.ServicerContext[Any, Any]


class OpenInferenceServicer(rpc.GRPCInferenceServiceServicer):
    """Models by ``name`` and ``version``; a version is a number or an alias.

    Args:
        segmenter: Does the work.
        directory: Finds and loads models.
        listing: Knows the versions.
        ready: Raises a HistillError while the service cannot do its work.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        directory: Directory,
        listing: Listing,
        ready: Callable[[], Awaitable[None]],
    ) -> None:
        self._segmenter = segmenter
        self._directory = directory
        self._listing = listing
        self._ready = ready

    async def ServerLive(  # noqa: N802
        self,
        request: pb.ServerLiveRequest,  # noqa: ARG002 - it has no fields
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.ServerLiveResponse:
        """As the proto says."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802
        self,
        request: pb.ServerReadyRequest,  # noqa: ARG002 - it has no fields
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.ServerReadyResponse:
        """As the proto says."""
        try:
            await self._ready()
        except HistillError:
            return pb.ServerReadyResponse(ready=False)
        return pb.ServerReadyResponse(ready=True)

    async def ModelReady(  # noqa: N802
        self,
        request: pb.ModelReadyRequest,
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.ModelReadyResponse:
        """As the proto says; errors of a model that cannot be loaded are the call's."""
        await self._directory.get(_reference(request.name, request.version))
        return pb.ModelReadyResponse(ready=True)

    async def ServerMetadata(  # noqa: N802
        self,
        request: pb.ServerMetadataRequest,  # noqa: ARG002 - it has no fields
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.ServerMetadataResponse:
        """As the proto says."""
        return pb.ServerMetadataResponse(name="histill", version=version("histill"))

    async def ModelMetadata(  # noqa: N802
        self,
        request: pb.ModelMetadataRequest,
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.ModelMetadataResponse:
        """As the proto says."""
        model = await self._directory.get(_reference(request.name, request.version))
        name = model.manifest.name
        response = pb.ModelMetadataResponse(
            name=name,
            versions=[str(number) for number in await self._listing.versions(name)],
            platform="onnx_onnxv1",
        )
        channels = model.manifest.channels
        response.inputs.add(name=tensors.INPUT, datatype="UINT8", shape=(-1, -1, -1, channels))
        for output, datatype in tensors.OUTPUTS.items():
            response.outputs.add(name=output, datatype=datatype, shape=(-1, -1, -1))
        return response

    async def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        """As the proto says; images of any size, since they are padded or tiled here."""
        names = tensors.wanted(request)
        batch = tensors.image_batch(request)
        model, found = await self._segmenter.classify(
            _reference(request.model_name, request.model_version),
            batch,
            deadline=deadline(context),
        )
        response = pb.ModelInferResponse(
            model_name=model.manifest.name,
            model_version=str(model.manifest.version),
            id=request.id,
        )
        tensors.add_outputs(response, found, names)
        return response


def _reference(name: str, version_or_alias: str) -> str:
    return f"{name}@{version_or_alias}" if version_or_alias else name
