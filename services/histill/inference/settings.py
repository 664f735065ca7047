"""Settings of the inference service: ``HISTILL_INFERENCE__*`` besides every service's."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from histill.core.pace import MIN_BYTES_PER_S
from histill.core.settings import ServiceSettings
from histill.core.signing import SigningSettings

_ON_GPU = 8  # images of a run, where nobody says how many


class BatchLimits(BaseModel):
    """How requests that wait for one model are put into one run of it.

    Attributes:
        max_batch: Images of one run; 1 joins no requests. 0 takes 8 on a GPU and 1 on a CPU,
            where a run of several takes no less time than as many runs, and several workers
            with one thread each do better.
        max_delay_ms: Longest wait for company while a slot is free, where the model's last
            run had some; 0 waits for nothing but a slot.
        preferred: Sizes that do not wait for more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch: int = Field(default=0, ge=0, le=64)
    max_delay_ms: float = Field(default=2.0, ge=0, le=10_000)
    preferred: tuple[Annotated[int, Field(ge=2, le=64)], ...] = ()


class Batching(BatchLimits):
    """Limits of all models, and what differs for some.

    Attributes:
        models: By name, ``project/name`` of other projects than ``default``; what is left
            out of one is as for all.
    """

    models: dict[str, BatchLimits] = {}

    @model_validator(mode="after")
    def _preferred_fit(self) -> Self:
        for name in ("", *self.models):
            limits = self.of(name, device="cuda")
            if max(limits.preferred, default=0) > limits.max_batch:
                raise ValueError(
                    f"preferred sizes {f'of {name} ' if name else ''}must not exceed max_batch, "
                    f"{limits.max_batch}"
                )
        return self

    def of(self, model: str, *, device: str) -> BatchLimits:
        """The limits of a model on ``cpu`` or ``cuda``, where ``max_batch`` is never 0."""
        chosen = {name: getattr(self, name) for name in BatchLimits.model_fields}
        if model in self.models:
            chosen |= self.models[model].model_dump(exclude_unset=True)
        chosen["max_batch"] = chosen["max_batch"] or (_ON_GPU if device == "cuda" else 1)
        return BatchLimits(**chosen)

    def largest(self, *, device: str) -> int:
        """Most images of a run of any model."""
        return max(self.of(name, device=device).max_batch for name in ("", *self.models))


class InferencePart(BaseModel):
    """How students are kept and run, and how much is taken in.

    Attributes:
        preload: References that are loaded before the service is ready, and stay;
            ``project/name@alias`` of other projects than ``default``.
        workers: 0 means one for each core on a CPU, which gives more answers a second than
            fewer with more threads each, and one on a GPU.
        threads: Threads of one computation; 0 shares the cores out among the workers.
        max_queue: -1 means as many as the workers take at a time: whoever gets in waits for
            one other at most, or one batch, so that an answer under overload takes at most
            about three times as long as without.
        runtime: ``auto`` takes the one that is faster for the student, by measurement when it
            is loaded. On a GPU it is ONNX Runtime.
        precision: ``auto`` takes bfloat16 or 8-bit integers where the student was found to
            lose at most 0.3 points of Dice by them and they are faster; ``f32`` never does.
        device: ``auto`` takes CUDA where ONNX Runtime offers it.
        batching: Of requests that wait for the same model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preload: tuple[str, ...] = ()
    workers: int = Field(default=0, ge=0, le=256, description="computations at a time")
    threads: int = Field(default=0, ge=0, le=256)
    runtime: str = Field(default="auto", pattern="^(auto|onnxruntime|openvino)$")
    precision: str = Field(default="auto", pattern="^(auto|f32)$")
    device: str = Field(default="auto", pattern="^(auto|cpu|cuda)$")
    batching: Batching = Batching()
    max_queue: int = Field(default=-1, ge=-1, le=100_000, description="requests that may wait")
    max_per_project: int = Field(default=0, ge=0, description="of a project inside; 0: no bound")
    cache_bytes: int = Field(default=1 << 30, ge=1 << 20, description="model files kept loaded")
    poll_s: float = Field(default=2.0, gt=0, le=3600, description="how often aliases are looked up")
    max_pixels: int = Field(default=200_000_000, ge=1, description="of an image held whole")
    max_slide_pixels: int = Field(default=10_000_000_000, ge=1, description="of one read by tiles")
    max_file_bytes: int = Field(default=1 << 30, ge=1, description="of one image file")
    max_upload_bytes: int = Field(default=2 << 30, ge=1, description="of all streams at a time")
    upload_folder: str = Field(default="", description="of nameless files; empty: in memory")
    decoder_memory_bytes: int = Field(
        default=3 << 30, ge=64 << 20, description="of each process that reads files"
    )
    decoder_cpu_s: int = Field(default=60, ge=1, le=3600, description="of one task of such")
    upload_idle_s: float = Field(default=30.0, gt=0, description="longest wait for a client")
    upload_min_bytes_per_s: int = Field(
        default=MIN_BYTES_PER_S, ge=1, description="least rate of an upload, after upload_idle_s"
    )
    load_s: float = Field(
        default=300.0, gt=0, description="longest time to make a model ready; then it is refused"
    )
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
    signing: SigningSettings = SigningSettings()
