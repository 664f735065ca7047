"""Settings of the jobs service."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from histill.core.pools import DEFAULT_POOL, Pools
from histill.core.settings import ServiceSettings


class JobsPart(BaseModel):
    """What jobs may ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pools: Pools = Field(
        default=(DEFAULT_POOL,),
        description="of workers, that a job may name; the first takes those that name none",
    )


class ReaperPart(BaseModel):
    """How lost jobs are found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_s: float = Field(default=2.0, gt=0, description="between two looks")
    grace_s: float = Field(
        default=10.0, ge=0, description="a running job may be without a lease this long"
    )
    scan_s: float = Field(
        default=15.0, ge=0, description="between two looks for lost messages behind others"
    )
    resubmit_s: float = Field(
        default=10.0, ge=0, description="a queued job may be without a message"
    )
    max_losses: int = Field(
        default=3, ge=1, description="lost workers after which a job has failed"
    )


class SweeperPart(BaseModel):
    """How what killed processes left in the store is found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_s: float = Field(default=600.0, gt=0, description="between two looks")
    after_s: float = Field(
        default=3600.0, ge=0, description="what nothing names for so long is removed"
    )


class PurgePart(BaseModel):
    """How removals are proved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wait_s: float = Field(
        default=60.0, ge=0, le=600, description="for workers to say that their disks are clean"
    )


class JobsSettings(ServiceSettings):
    """Everything the jobs service reads from ``HISTILL_*``."""

    jobs: JobsPart = JobsPart()
    reaper: ReaperPart = ReaperPart()
    purge: PurgePart = PurgePart()
    sweeper: SweeperPart = SweeperPart()
