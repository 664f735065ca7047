"""A request that is repeated when the service has other pools than before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

import manifests
from fakes import MemoryEvents, MemoryIndex, MemoryLive, MemoryObjects, MemoryQueue
from histill.api.distillation.v1 import distillation_service_pb2 as pb
from histill.core.catalog import DATASETS
from histill.core.errors import AlreadyExistsError, InvalidArgumentError, UnavailableError
from histill.core.job_store import JobStore
from histill.core.messages import job_from_yaml
from histill.jobs.known import Known
from histill.jobs.servicer import JobsServicer
from histill.jobs.watching import Watching

NOW = datetime(2026, 5, 4, tzinfo=UTC)
CONTEXT = cast("Any", None)


class World:
    """A service that is started again with other pools."""

    def __init__(self) -> None:
        self.objects, self.queue = MemoryObjects(), MemoryQueue()
        self.index = MemoryIndex(built=True)
        blobs = manifests.dataset().model_dump_json().encode()
        self.objects.put(DATASETS.manifest_key("blobs", 1), blobs)
        self.jobs = JobStore(self.objects, self.index, MemoryEvents(), lambda: NOW)

    async def ask(self, *pools: str, pool: str = "", key: str = "key") -> str:
        """Name of the job that a service with these pools answers."""
        servicer = JobsServicer(
            self.objects,
            self.jobs,
            MemoryLive(),
            self.queue,
            Watching(self.jobs),
            Known(self.objects),
            lambda: NOW,
            pools,
        )
        spec: dict[str, Any] = {"supervised": {"dataset": "blobs", "output_model": "m"}}
        job = job_from_yaml(spec | ({"pool": pool} if pool else {}))
        answer = await servicer.CreateJob(pb.CreateJobRequest(job=job, request_id=key), CONTEXT)
        return answer.job.name


async def test_a_request_without_a_pool_finds_its_job_in_any() -> None:
    """The settings have another first pool now; nobody asked for the one of before."""
    world = World()
    first = await world.ask("default")
    assert await world.ask("cpu", "default") == first
    assert await world.ask("cpu") == first
    assert await world.ask("cpu", key="other") != first


async def test_a_request_for_a_pool_that_is_gone_finds_its_job() -> None:
    """It was accepted; only a new one is refused, and one that now asks for another pool."""
    world = World()
    first = await world.ask("default", "gpu", pool="gpu")
    assert await world.ask("default", pool="gpu") == first
    assert world.queue.messages
    with pytest.raises(InvalidArgumentError, match=r"there are default$"):
        await world.ask("default", pool="gpu", key="other")
    with pytest.raises(InvalidArgumentError, match=r"there are default$"):
        await world.ask("default", pool="tpu")
    with pytest.raises(AlreadyExistsError):
        await world.ask("default", pool="default")


async def test_while_keys_are_not_known_nobody_is_told_that_the_pool_is_wrong() -> None:
    """The caller tries again, and is then answered with its job."""
    world = World()
    first = await world.ask("default", "gpu", pool="gpu")
    world.index.built = False
    with pytest.raises(UnavailableError, match="rebuilt"):
        await world.ask("default", pool="gpu")
    world.index.built = True
    assert await world.ask("default", pool="gpu") == first
