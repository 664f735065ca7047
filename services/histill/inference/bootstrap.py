"""Puts the inference service together: the only place that constructs its clients."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from histill.adapters.audit_trail import audit_trail
from histill.adapters.ed25519 import load_signing
from histill.adapters.s3 import S3ObjectStore
from histill.api.inference.v2 import grpc_service_pb2, grpc_service_pb2_grpc
from histill.api.segmentation.v1 import segmentation_service_pb2, segmentation_service_pb2_grpc
from histill.core.clock import utc_now
from histill.core.errors import UnavailableError
from histill.core.projects import scoped
from histill.inference.admission import Admission
from histill.inference.batching import Batcher
from histill.inference.choosing import Means, load
from histill.inference.computer import Computer
from histill.inference.cpus import cores
from histill.inference.directory import Directory
from histill.inference.listing import Listing
from histill.inference.memory import share_arenas
from histill.inference.models import ModelPool
from histill.inference.onnx_runtime import uses_cuda
from histill.inference.open_inference import OpenInferenceServicer
from histill.inference.opening import Opener
from histill.inference.owned import Owned
from histill.inference.requests import Limits
from histill.inference.segmenter import Segmenter
from histill.inference.servicer import SegmentationServicer
from histill.inference.statistics import Statistics
from histill.inference.uploads import Uploads
from histill.ml.confinement import Budget
from histill.ml.decoders import Decoders
from histill.rpc.audit import Audit
from histill.rpc.server import ServiceDescription, serve
from histill.rpc.stored_keys import StoredKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from histill.core.manifests import ModelManifest
    from histill.inference.models import LoadedModel
    from histill.inference.runtime import Runtime
    from histill.inference.settings import BatchLimits, InferencePart, InferenceSettings

_SEGMENTATION = segmentation_service_pb2.DESCRIPTOR.services_by_name["SegmentationService"]
_OPEN_INFERENCE = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
PORT = 50053
METRICS_PORT = 9103
HEALTH_PORT = 50063


async def run(settings: InferenceSettings) -> None:
    """Serves until told to stop."""
    part = settings.inference
    share_arenas()
    objects = S3ObjectStore.connect(settings.s3)
    device = "cuda" if uses_cuda(part.device) else "cpu"
    workers = part.workers or (1 if device == "cuda" else cores())
    largest = part.batching.largest(device=device)
    store_of = partial(scoped, objects)
    pool = ModelPool(
        store_of,
        _loader(part, workers),
        budget_bytes=part.cache_bytes,
        verifier=load_signing(settings.signing).verifier,
        load_s=part.load_s,
    )
    directory = Directory(store_of, pool, preload=part.preload, poll_s=part.poll_s)
    admission = Admission(
        workers=workers,
        # Batches in the making are no queue: with those that wait, two of each worker.
        max_queue=(2 * largest - 1) * workers if part.max_queue < 0 else part.max_queue,
        max_per_project=part.max_per_project,
        # One worker of a GPU waits for many images.
        coders=cores() if device == "cuda" else workers,
    )
    admission.show(workers * largest)
    computer = Computer(
        admission,
        tile=part.tile,
        overlap=part.overlap,
        batcher=Batcher(admission, partial(_batch_limits, part)) if largest > 1 else None,
    )
    statistics = Statistics()
    limits = Limits(part.max_pixels, part.max_slide_pixels)
    decoders = Decoders(
        Budget(part.decoder_memory_bytes, part.decoder_cpu_s), ahead=workers, spare=workers
    )
    opener = Opener(admission, computer, limits, decoders)
    segmenter = Segmenter(directory, admission, computer, opener, statistics, limits)
    listing = Listing(store_of, pool)
    uploads = Uploads(
        max_file_bytes=part.max_file_bytes,
        max_bytes=part.max_upload_bytes,
        idle_s=part.upload_idle_s,
        bytes_per_s=part.upload_min_bytes_per_s,
        folder=part.upload_folder,
    )
    segmentation = SegmentationServicer(
        segmenter,
        listing,
        uploads,
        max_pixels=part.max_pixels,
        max_message_bytes=settings.server.max_message_bytes,
        idle_s=part.upload_idle_s,
    )

    async def ready() -> None:
        await asyncio.to_thread(objects.ping)
        await asyncio.to_thread(decoders.start)
        if missing := directory.missing():
            raise UnavailableError(f"not loaded yet: {', '.join(missing)}")

    open_inference = OpenInferenceServicer(
        segmenter,
        directory,
        listing,
        pool,
        statistics,
        workers=workers,
        limits=partial(_batch_limits, part),
        max_message_bytes=settings.server.max_message_bytes,
        ready=ready,
    )

    def register(server: grpc.aio.Server) -> None:
        segmentation_service_pb2_grpc.add_SegmentationServiceServicer_to_server(
            segmentation, server
        )
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(open_inference, server)

    names = (_SEGMENTATION.full_name, _OPEN_INFERENCE.full_name)
    following = asyncio.create_task(directory.follow())
    try:
        with audit_trail(
            settings.audit, settings.s3, objects, process="inference", clock=utc_now
        ) as trail:
            await serve(
                settings,
                ServiceDescription(
                    "inference",
                    PORT,
                    METRICS_PORT,
                    names,
                    register,
                    ready,
                    health_port=HEALTH_PORT,
                ),
                keys=StoredKeys(
                    objects, every_s=settings.auth.refresh_s, seal=settings.auth.seal_bytes
                ),
                audit=Audit(trail, settings.audit.when_full, utc_now),
            )
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        decoders.close()


def _batch_limits(part: InferencePart, model: LoadedModel) -> BatchLimits:
    name = str(Owned(model.project, model.manifest.name))
    return part.batching.of(name, device=model.runtime.device)


def _loader(
    part: InferencePart, workers: int
) -> Callable[[ModelManifest, Callable[[str], bytes]], Runtime]:
    means = Means(
        workers=workers,
        threads=part.threads or max(1, cores() // workers),
        device=part.device,
        runtime=part.runtime,
        precision=part.precision,
    )
    return partial(load, means=means)
