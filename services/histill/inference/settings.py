"""Settings of the inference service: ``HISTILL_INFERENCE__*`` besides every service's."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from histill.core.settings import ServiceSettings


class InferencePart(BaseModel):
    """How students are kept and run, and how much is taken in.

    Attributes:
        preload: References that are loaded before the service is ready, and stay.
        workers: 0 means one for each core on a CPU, which gives more answers a second than
            fewer with more threads each, and one on a GPU.
        threads: Threads of one computation; 0 shares the cores out among the workers.
        max_queue: -1 means twice the workers: whoever gets in waits for two others at most,
            so that an answer under overload takes about three times as long as without.
        runtime: ``auto`` takes the one that is faster for the student, by measurement when it
            is loaded. On a GPU it is ONNX Runtime.
        precision: ``auto`` takes bfloat16 where the CPU has it and the student was found to
            lose at most 0.3 points of Dice by it; ``f32`` never does.
        device: ``auto`` takes CUDA where ONNX Runtime offers it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preload: tuple[str, ...] = ()
    workers: int = Field(default=0, ge=0, le=256, description="computations at a time")
    threads: int = Field(default=0, ge=0, le=256)
    runtime: str = Field(default="auto", pattern="^(auto|onnxruntime|openvino)$")
    precision: str = Field(default="auto", pattern="^(auto|f32)$")
    device: str = Field(default="auto", pattern="^(auto|cpu|cuda)$")
    max_queue: int = Field(default=-1, ge=-1, le=100_000, description="requests that may wait")
    max_per_project: int = Field(default=0, ge=0, description="of a project inside; 0: no bound")
    cache_bytes: int = Field(default=1 << 30, ge=1 << 20, description="model files kept loaded")
    poll_s: float = Field(default=2.0, gt=0, le=3600, description="how often aliases are looked up")
    max_pixels: int = Field(default=200_000_000, ge=1, description="rows times columns")
    max_file_bytes: int = Field(default=1 << 30, ge=1, description="of one image file")
    max_upload_bytes: int = Field(default=2 << 30, ge=1, description="of all streams at a time")
    upload_idle_s: float = Field(default=30.0, gt=0, description="longest wait for the next chunk")
    tile: int = Field(default=768, ge=256, le=8192, description="larger images are cut into tiles")
    overlap: int = Field(default=128, ge=16, description="of neighbouring tiles, in pixels")

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if 2 * self.overlap >= self.tile:
            raise ValueError("overlap must be less than half of tile")
        return self


class InferenceSettings(ServiceSettings):
    """Everything the process reads from its environment."""

    inference: InferencePart = InferencePart()
