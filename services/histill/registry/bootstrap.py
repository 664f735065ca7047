"""Puts the registry service together: the only place that constructs its clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from histill.adapters.redis_client import connect
from histill.adapters.redis_jobs import RedisVersionCounter
from histill.adapters.s3 import S3ObjectStore
from histill.api.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from histill.core.clock import utc_now
from histill.registry.servicer import RegistryServicer
from histill.rpc.server import ServiceDescription, serve

if TYPE_CHECKING:
    import grpc

    from histill.registry.settings import RegistrySettings

_NAME = registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"].full_name


async def run(settings: RegistrySettings) -> None:
    """Serves until told to stop."""
    objects = S3ObjectStore.connect(settings.s3)
    versions = RedisVersionCounter(connect(settings.redis))
    servicer = RegistryServicer(objects, versions, settings.upload, utc_now)

    async def ready() -> None:
        await asyncio.to_thread(objects.ensure_bucket)
        await servicer.ready()

    def register(server: grpc.aio.Server) -> None:
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(servicer, server)

    await serve(settings, ServiceDescription("registry", 50052, 9102, (_NAME,), register, ready))
