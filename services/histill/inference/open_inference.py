"""GRPCInferenceService of the Open Inference Protocol v2, for clients made for Triton."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import structlog

from histill.api.inference.v2 import grpc_service_pb2 as pb
from histill.api.inference.v2 import grpc_service_pb2_grpc as rpc
from histill.core.errors import HistillError, InvalidArgumentError, ResourceExhaustedError
from histill.inference import described, measures, parameters, tensors
from histill.inference.call import call_of
from histill.inference.owned import Owned
from histill.inference.servicer import HEADROOM_BYTES
from histill.rpc import audit
from histill.rpc.interceptor import current_caller
from histill.rpc.statuses import code_of, to_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import grpc

    from histill.inference.directory import Directory
    from histill.inference.listing import Listing
    from histill.inference.models import LoadedModel, ModelPool
    from histill.inference.segmenter import Segmenter
    from histill.inference.settings import BatchLimits
    from histill.inference.statistics import Statistics

    Context = grpc.aio.ServicerContext[Any, Any]


log = structlog.get_logger()

# Of Triton's: those that work here, by the names under which clients look for them.
EXTENSIONS = ("model_configuration", "model_repository", "schedule_policy", "statistics")


class OpenInferenceServicer(rpc.GRPCInferenceServiceServicer):
    """Models by ``name`` and ``version``; a version is a number or an alias.

    Args:
        segmenter: Does the work.
        directory: Finds and loads models.
        listing: Knows the versions.
        pool: Knows what is in memory.
        statistics: Knows what was asked.
        workers: Computations at a time.
        limits: Of a model's batches.
        max_message_bytes: Of an answer.
        ready: Raises a HistillError while the service cannot do its work.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        directory: Directory,
        listing: Listing,
        pool: ModelPool,
        statistics: Statistics,
        *,
        workers: int,
        limits: Callable[[LoadedModel], BatchLimits],
        max_message_bytes: int,
        ready: Callable[[], Awaitable[None]],
    ) -> None:
        self._segmenter = segmenter
        self._directory = directory
        self._listing = listing
        self._pool = pool
        self._statistics = statistics
        self._workers = workers
        self._limits = limits
        self._max_answer = max_message_bytes - HEADROOM_BYTES
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
        await self._directory.get(_asked(request.name, request.version), field="name")
        return pb.ModelReadyResponse(ready=True)

    async def ServerMetadata(  # noqa: N802
        self,
        request: pb.ServerMetadataRequest,  # noqa: ARG002 - it has no fields
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.ServerMetadataResponse:
        """As the proto says."""
        return pb.ServerMetadataResponse(
            name="histill", version=version("histill"), extensions=EXTENSIONS
        )

    async def ModelMetadata(  # noqa: N802
        self,
        request: pb.ModelMetadataRequest,
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.ModelMetadataResponse:
        """As the proto says."""
        model = await self._directory.get(_asked(request.name, request.version), field="name")
        versions = await self._listing.versions(model.project, model.manifest.name)
        return described.metadata(model, versions)

    async def ModelConfig(  # noqa: N802
        self,
        request: pb.ModelConfigRequest,
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.ModelConfigResponse:
        """As the proto says."""
        model = await self._directory.get(_asked(request.name, request.version), field="name")
        config = described.config(model, workers=self._workers, limits=self._limits(model))
        return pb.ModelConfigResponse(config=config)

    async def ModelStatistics(  # noqa: N802
        self,
        request: pb.ModelStatisticsRequest,
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.ModelStatisticsResponse:
        """As the proto says."""
        asked = _asked(request.name, request.version)
        chosen = [] if request.version else self._statistics.references(asked.project, request.name)
        if request.name and not chosen:  # one version; or asked nothing yet, or unknown
            chosen = [(await self._directory.find(asked, field="name")).reference]
        versions = [Owned(asked.project, reference) for reference in chosen]
        return pb.ModelStatisticsResponse(
            model_stats=[
                described.statistics(
                    each.reference, self._statistics.peek(each), self._pool.peek(each)
                )
                for each in versions
            ]
        )

    async def RepositoryIndex(  # noqa: N802
        self,
        request: pb.RepositoryIndexRequest,
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.RepositoryIndexResponse:
        """As the proto says."""
        _only_repository(request.repository_name)
        response = pb.RepositoryIndexResponse()
        for each in await self._listing.served(current_caller().project):
            if each.loaded or not request.ready:
                response.models.add(
                    name=each.manifest.name,
                    version=str(each.manifest.version),
                    state="READY" if each.loaded else "UNAVAILABLE",
                    reason="" if each.loaded else "not in memory; it is loaded when asked for",
                )
        return response

    async def RepositoryModelLoad(  # noqa: N802
        self,
        request: pb.RepositoryModelLoadRequest,
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.RepositoryModelLoadResponse:
        """As the proto says."""
        _only_repository(request.repository_name)
        if request.parameters:
            raise InvalidArgumentError.of(
                "parameters", "must be empty: models come from the registry as they are"
            )
        await self._directory.load(_asked(request.model_name))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(  # noqa: N802
        self,
        request: pb.RepositoryModelUnloadRequest,
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.RepositoryModelUnloadResponse:
        """As the proto says."""
        _only_repository(request.repository_name)
        if unknown := sorted(request.parameters.keys() - {"unload_dependents"}):
            raise InvalidArgumentError.of(f"parameters[{unknown[0]}]", "there is no such parameter")
        self._directory.unload(_asked(request.model_name))
        return pb.RepositoryModelUnloadResponse()

    async def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        """As the proto says; images of any size, since they are padded or tiled here."""
        return await self._infer(request, context)

    async def ModelStreamInfer(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """As the proto says."""
        async for request in request_iterator:
            response, final = pb.ModelStreamInferResponse(), False
            with audit.part(request):
                try:
                    final = parameters.flag(request, "triton_enable_empty_final_response")
                    response.infer_response.CopyFrom(await self._infer(request, context))
                    measures.STREAMED.labels("OK").inc()
                except HistillError as exc:
                    response.error_message = self._told(exc)
                    response.infer_response.id = request.id
            if final:
                response.infer_response.parameters["triton_final_response"].bool_param = True
            yield response

    @staticmethod
    def _told(exc: HistillError) -> str:
        """An error within a stream, whose status is that of the whole."""
        status = to_status(exc)
        code = code_of(exc).name
        measures.STREAMED.labels(code).inc()
        audit.note(code=code)
        audit.note_refusal(exc)
        if code == "INTERNAL":
            log.error("stream_request_failed", why=status.message)
        later = exc.retry_after_s if isinstance(exc, ResourceExhaustedError) else None
        hint = f"; come back in {later:.2g} s" if later is not None else ""
        return f"[{code}] {status.message}{hint}"

    async def _infer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        names = tensors.wanted(request)
        batch = tensors.image_batch(request)
        if (size := tensors.answer_bytes(batch.shape, names)) > self._max_answer:
            raise ResourceExhaustedError(
                f"the answer would have {size} bytes, more than one message may; send fewer or "
                "smaller images, ask for the mask alone, or call SegmentLarge"
            )
        model, found = await self._segmenter.infer(
            _reference(request.model_name, request.model_version),
            batch,
            names,
            call_of(
                context,
                urgent=parameters.urgent(request),
                timeout_s=parameters.timeout_s(request),
            ),
        )
        response = pb.ModelInferResponse(
            model_name=model.manifest.name,
            model_version=str(model.manifest.version),
            id=request.id,
        )
        tensors.add_outputs(response, found)
        audit.note_model(model.manifest)
        audit.note(bytes_out=size)
        return response


def _reference(name: str, version_or_alias: str) -> str:
    return f"{name}@{version_or_alias}" if version_or_alias else name


def _asked(name: str, version_or_alias: str = "") -> Owned:
    """What the caller means, which is never another project's."""
    return Owned(current_caller().project, _reference(name, version_or_alias))


def _only_repository(name: str) -> None:
    if name:
        raise InvalidArgumentError.of(
            "repository_name", "must be empty: there is one repository, the registry"
        )
