"""Puts the jobs service together: the only place that constructs its clients."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import structlog

from histill.adapters.audit_trail import audit_trail
from histill.adapters.celery_queue import CeleryJobQueue
from histill.adapters.redis_client import connect
from histill.adapters.redis_events import RedisEventLog
from histill.adapters.redis_holdings import RedisHoldings
from histill.adapters.redis_jobs import RedisJobIndex
from histill.adapters.redis_live import RedisLiveState
from histill.adapters.redis_traces import RedisTraces
from histill.adapters.s3 import S3ObjectStore
from histill.api.distillation.v1 import distillation_service_pb2, distillation_service_pb2_grpc
from histill.api.privacy.v1 import privacy_service_pb2, privacy_service_pb2_grpc
from histill.core.clock import utc_now
from histill.core.errors import HistillError, UnavailableError
from histill.core.job_store import JobStore
from histill.jobs.gauges import Gauges
from histill.jobs.known import Known
from histill.jobs.mending import mend_now_and_then
from histill.jobs.privacy import PrivacyServicer
from histill.jobs.purging import Purging
from histill.jobs.reaper import Reaper
from histill.jobs.servicer import JobsServicer
from histill.jobs.sweeper import Sweeper
from histill.jobs.watching import Watching
from histill.rpc.audit import Audit
from histill.rpc.server import ServiceDescription, serve
from histill.rpc.stored_keys import StoredKeys

if TYPE_CHECKING:
    import grpc

    from histill.jobs.settings import JobsSettings

_NAME = distillation_service_pb2.DESCRIPTOR.services_by_name["DistillationService"].full_name
_PRIVACY = privacy_service_pb2.DESCRIPTOR.services_by_name["PrivacyService"].full_name
_RETRY_S = 1.0
log = structlog.get_logger()


async def run(settings: JobsSettings) -> None:
    """Serves until told to stop."""
    objects = S3ObjectStore.connect(settings.s3)
    redis = connect(settings.redis)
    index, live = RedisJobIndex(redis), RedisLiveState(redis)
    jobs = JobStore(objects, index, RedisEventLog(redis), utc_now)
    queue = CeleryJobQueue.connect(settings.redis)
    watching = Watching(jobs)
    pools = settings.jobs.pools
    servicer = JobsServicer(objects, jobs, live, queue, watching, Known(objects), utc_now, pools)
    sweeper = Sweeper(objects, jobs, settings.sweeper)
    privacy = PrivacyServicer(
        Purging(
            objects, jobs, live, RedisTraces(redis), RedisHoldings(redis), settings.purge.wait_s
        )
    )
    reaper = Reaper(
        uuid.uuid4().hex,
        jobs,
        index,
        live,
        queue,
        Gauges(index, live, pools, utc_now),
        settings.reaper,
        utc_now,
    )
    rebuilt = asyncio.Event()

    async def keep() -> None:
        """Fills the index from S3, then reaps."""
        while True:
            try:
                await asyncio.to_thread(objects.ensure_bucket)
                if await asyncio.to_thread(index.is_built):
                    rebuilt.set()  # what follows only heals it
                log.info("index_rebuilt", jobs=await asyncio.to_thread(jobs.rebuild))
                rebuilt.set()
                break
            except HistillError as exc:
                log.warning("rebuild_waits", why=str(exc))
                await asyncio.sleep(_RETRY_S)
            except Exception:
                log.exception("rebuild_crashed")
                await asyncio.sleep(_RETRY_S)
        await reaper.run()

    async def ready() -> None:
        if not rebuilt.is_set():
            raise UnavailableError("the index is being rebuilt from S3")
        await servicer.ready()

    def register(server: grpc.aio.Server) -> None:
        distillation_service_pb2_grpc.add_DistillationServiceServicer_to_server(servicer, server)
        privacy_service_pb2_grpc.add_PrivacyServiceServicer_to_server(privacy, server)

    watching.start()
    keeper = asyncio.create_task(keep())
    # Beside the reaper: it reads the whole store, and lost workers must not wait for that.
    broom = asyncio.create_task(sweeper.run(lambda: reaper.leads))
    mender = asyncio.create_task(mend_now_and_then(index, lambda: reaper.leads))
    try:
        with audit_trail(
            settings.audit, settings.s3, objects, process="jobs", clock=utc_now
        ) as trail:
            await serve(
                settings,
                ServiceDescription(
                    "jobs", 50051, 9101, (_NAME, _PRIVACY), register, ready, watching.drain, 50061
                ),
                keys=StoredKeys(
                    objects, every_s=settings.auth.refresh_s, seal=settings.auth.seal_bytes
                ),
                audit=Audit(trail, settings.audit.when_full, utc_now),
            )
    finally:
        for each in (keeper, broom, mender):
            each.cancel()
        watching.stop()
