"""Settings of the jobs service."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from histill.core.settings import ServiceSettings


class ReaperPart(BaseModel):
    """How lost jobs are found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_s: float = Field(default=2.0, gt=0, description="between two looks")
    grace_s: float = Field(
        default=5.0, ge=0, description="a running job may be without a lease this long"
    )
    resubmit_s: float = Field(
        default=10.0, ge=0, description="a queued job may be without a message"
    )
    max_losses: int = Field(
        default=3, ge=1, description="lost workers after which a job has failed"
    )


class JobsSettings(ServiceSettings):
    """Everything the jobs service reads from ``HISTILL_*``."""

    reaper: ReaperPart = ReaperPart()
