"""Settings of the registry service."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from histill.core.pace import MIN_BYTES_PER_S
from histill.core.settings import ServiceSettings
from histill.core.signing import SigningSettings


class UploadPart(BaseModel):
    """What an upload may be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=20 << 30, ge=1, description="all files of an upload together")
    max_files: int = Field(default=10_000, ge=1)
    max_pixels: int = Field(default=100_000_000, ge=1, description="of one image of a dataset")
    idle_s: float = Field(default=60.0, gt=0, description="longest wait for a client")
    min_bytes_per_s: int = Field(
        default=MIN_BYTES_PER_S, ge=1, description="least rate of an upload, after idle_s"
    )
    scratch: str = Field(default="", description="folder for uploads; empty: the system's")


class RegistrySettings(ServiceSettings):
    """Everything the registry service reads from ``HISTILL_*``."""

    upload: UploadPart = UploadPart()
    signing: SigningSettings = SigningSettings()
