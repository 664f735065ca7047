"""Settings of the worker."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from histill.core.pools import DEFAULT_POOL, Pools
from histill.core.settings import ProcessSettings
from histill.core.signing import SigningSettings


class WorkerPart(BaseModel):
    """How jobs run on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: int = Field(
        default=1, ge=1, le=64, description="jobs at once; one per GPU, or per host"
    )
    processes: int = Field(
        default=1, ge=1, le=64, description="trainer processes a job (torchrun, DDP)"
    )
    threads: int = Field(
        default=0, ge=0, le=512, description="CPU threads a trainer; 0: cores / jobs"
    )
    scratch: str = Field(default="", description="folder for work folders; empty: the system's")
    teacher_cache: str = Field(
        default="", description="folder for teachers' predictions; empty: none are kept"
    )
    teacher_cache_bytes: int = Field(
        default=10 << 30, ge=0, description="what that folder may hold"
    )
    checkpoint_s: float = Field(
        default=60.0, ge=0.0, description="how often a run can be gone on from"
    )
    lease_ttl_s: float = Field(
        default=30.0, ge=1.0, description="a lost worker's job is free after this"
    )
    poll_s: float = Field(default=0.5, gt=0.0, description="how often cancellation is looked for")
    stop_grace_s: float = Field(
        default=2.0, ge=0.0, description="from SIGTERM to SIGKILL of a trainer"
    )
    drain_s: float = Field(
        default=15.0, ge=0.0, description="at SIGTERM, wait for a trainer's last checkpoint"
    )
    max_losses: int = Field(
        default=3,
        ge=1,
        le=100,
        description="attempts that killed trainers and servers which are away may spoil",
    )
    patience_s: float = Field(
        default=300.0, ge=0.0, description="wait for a server that is away, before giving up"
    )
    pools: Pools = Field(
        default=(DEFAULT_POOL,), description="whose jobs it takes; the most urgent of all first"
    )
    health_host: str = "0.0.0.0"  # noqa: S104 - probes come from outside
    health_port: int = Field(default=50065, ge=-1, le=65535, description="-1: none")
    health_silence_s: float = Field(
        default=10.0, ge=1, description="without a sign of the process; then it is not healthy"
    )
    metrics_host: str = "0.0.0.0"  # noqa: S104 - Prometheus scrapes from outside
    metrics_port: int = Field(default=9105, ge=-1, le=65535, description="-1: none")


class WorkerSettings(ProcessSettings):
    """Everything the worker reads from ``HISTILL_*``."""

    worker: WorkerPart = WorkerPart()
    signing: SigningSettings = SigningSettings()
