"""The three services, as the page calls them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from histill.api.distillation.v1 import distillation_service_pb2 as jobs_pb
from histill.api.distillation.v1 import distillation_service_pb2_grpc as jobs_rpc
from histill.api.registry.v1 import registry_service_pb2 as registry_pb
from histill.api.registry.v1 import registry_service_pb2_grpc as registry_rpc
from histill.api.segmentation.v1 import segmentation_service_pb2 as segmentation_pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as segmentation_rpc
from histill.client.segmentation import LARGE_BYTES, large_parts
from histill.rpc.channel import ChannelTls, bearer, channel

if TYPE_CHECKING:
    import grpc

    from histill.web.settings import WebPart

    Watched = grpc.aio.UnaryStreamCall[jobs_pb.WatchJobRequest, jobs_pb.WatchJobResponse]


class Backends:
    """Calls with our key, each within a time limit. Errors are ``grpc.RpcError``.

    Args:
        settings: Where the services are.
    """

    def __init__(self, settings: WebPart) -> None:
        tls = ChannelTls(settings.ca_file, settings.certificate, settings.key)
        self._channels = [
            channel(target, tls=tls)
            for target in (settings.jobs, settings.registry, settings.inference)
        ]
        jobs, registry, inference = self._channels
        # The generated types are of the blocking kind; grpc.aio's calls are awaited.
        self._jobs: Any = jobs_rpc.DistillationServiceStub(jobs)
        self._registry: Any = registry_rpc.RegistryServiceStub(registry)
        self._inference: Any = segmentation_rpc.SegmentationServiceStub(inference)
        self._key = bearer(settings.api_key.get_secret_value())
        self._bounded = {"metadata": self._key, "timeout": settings.timeout_s}

    async def close(self) -> None:
        """Closes the channels."""
        for each in self._channels:
            await each.close()

    async def models(self) -> segmentation_pb.ListModelsResponse:
        """The models that can be asked for."""
        request = segmentation_pb.ListModelsRequest()
        answer: segmentation_pb.ListModelsResponse = await self._inference.ListModels(
            request, **self._bounded
        )
        return answer

    async def model(self, reference: str) -> registry_pb.GetModelResponse:
        """What the registry knows of one model."""
        request = registry_pb.GetModelRequest(reference=reference)
        answer: registry_pb.GetModelResponse = await self._registry.GetModel(
            request, **self._bounded
        )
        return answer

    async def segment(
        self, data: bytes, *, model: str, form: segmentation_pb.MaskFormat.ValueType
    ) -> segmentation_pb.SegmentResponse:
        """The mask of an image file of any size."""
        if len(data) <= LARGE_BYTES:
            request = segmentation_pb.SegmentRequest(model=model, encoded=data, format=form)
            answer: segmentation_pb.SegmentResponse = await self._inference.Segment(
                request, **self._bounded
            )
            return answer
        found, mask = segmentation_pb.SegmentResponse(), bytearray()
        header = segmentation_pb.SegmentLargeHeader(model=model, format=form, size_bytes=len(data))
        parts = large_parts(header, io.BytesIO(data))
        async for part in self._inference.SegmentLarge(parts, **self._bounded):
            if part.WhichOneof("part") == "summary":
                found.summary.CopyFrom(part.summary)
            mask += part.mask_chunk
        found.mask = bytes(mask)
        return found

    async def jobs(self, *, page_size: int, page_token: str) -> jobs_pb.ListJobsResponse:
        """A page of jobs, newest first."""
        request = jobs_pb.ListJobsRequest(page_size=page_size, page_token=page_token)
        answer: jobs_pb.ListJobsResponse = await self._jobs.ListJobs(request, **self._bounded)
        return answer

    def watch(self, name: str, *, after: str) -> Watched:
        """Events of a job until it ends, however long that takes."""
        request = jobs_pb.WatchJobRequest(name=name, after_event_id=after)
        call: Watched = self._jobs.WatchJob(request, metadata=self._key)
        return call
