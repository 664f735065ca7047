"""Puts the registry service together: the only place that constructs its clients."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from histill.adapters.audit_trail import audit_trail
from histill.adapters.ed25519 import load_signing
from histill.adapters.redis_client import connect
from histill.adapters.redis_jobs import RedisVersionCounter
from histill.adapters.s3 import S3ObjectStore
from histill.api.access.v1 import access_service_pb2, access_service_pb2_grpc
from histill.api.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from histill.core.clock import utc_now
from histill.core.projects import numbered, scoped
from histill.registry.access import AccessServicer
from histill.registry.servicer import RegistryServicer
from histill.rpc.audit import Audit
from histill.rpc.server import ServiceDescription, serve
from histill.rpc.stored_keys import StoredKeys

if TYPE_CHECKING:
    import grpc

    from histill.registry.settings import RegistrySettings

_REGISTRY = registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"]
_ACCESS = access_service_pb2.DESCRIPTOR.services_by_name["AccessService"]


async def run(settings: RegistrySettings) -> None:
    """Serves until told to stop."""
    signing = load_signing(settings.signing)
    objects = S3ObjectStore.connect(settings.s3)
    versions = RedisVersionCounter(connect(settings.redis))
    servicer = RegistryServicer(
        partial(scoped, objects),
        partial(numbered, versions),
        settings.upload,
        utc_now,
        signing.signer,
    )

    access = AccessServicer(objects, utc_now, settings.auth.seal_bytes)
    names = (_REGISTRY.full_name, _ACCESS.full_name)

    async def ready() -> None:
        await asyncio.to_thread(objects.ensure_bucket)
        await servicer.ready()

    def register(server: grpc.aio.Server) -> None:
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(servicer, server)
        access_service_pb2_grpc.add_AccessServiceServicer_to_server(access, server)

    with audit_trail(
        settings.audit, settings.s3, objects, process="registry", clock=utc_now
    ) as trail:
        await serve(
            settings,
            ServiceDescription("registry", 50052, 9102, names, register, ready, health_port=50062),
            keys=StoredKeys(
                objects, every_s=settings.auth.refresh_s, seal=settings.auth.seal_bytes
            ),
            audit=Audit(trail, settings.audit.when_full, utc_now),
        )
