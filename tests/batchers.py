"""A batcher over a worker and a model whose answers tell their questions."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from histill.core.errors import ResourceExhaustedError, RuntimeFailedError
from histill.core.projects import DEFAULT
from histill.inference.admission import Admission
from histill.inference.batching import Batcher
from histill.inference.call import Call
from histill.inference.models import LoadedModel
from histill.inference.runtime import CONFIDENCE, MASK
from histill.inference.settings import BatchLimits
from histill.inference.watch import Watch
from students import manifest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from histill.inference.runtime import Precision, Runtime

LONG_MS = 10_000.0  # a delay of which no test should see the end


@dataclass
class Mirror:
    """A runtime whose mask is the first channel, so that every answer tells its question.

    Attributes:
        most: Images that it has memory for.
        poison: First value of an image on which a run fails.
        mistake: Raised by every run.
        gate: Runs end when it is set, as it is at first.
        runs: Shapes that it was given.
    """

    most: int = 64
    poison: int = -1
    mistake: Exception | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    runs: list[tuple[int, ...]] = field(default_factory=list)
    stride: int = 8
    device: str = "cpu"
    name: str = "onnxruntime"
    precision: Precision = "f32"

    def __post_init__(self) -> None:
        self.gate.set()

    def run(self, outputs: Sequence[str], images: np.ndarray) -> list[Any]:
        self.runs.append(images.shape)
        self.gate.wait(5)
        if self.mistake is not None:
            raise self.mistake
        if len(images) > self.most:
            raise ResourceExhaustedError("not enough memory to compute", retry_after_s=1.0)
        if self.poison in images[:, 0, 0, 0]:
            raise RuntimeFailedError("it failed")
        mask = images[..., 0].copy()
        made = {MASK: mask, CONFIDENCE: mask.astype(np.float32) / 255}
        return [made[name] for name in outputs]

    @property
    def sizes(self) -> list[int]:
        """Of its runs."""
        return [shape[0] for shape in self.runs]


def model_of(runtime: Runtime, name: str = "nuclei", project: str = DEFAULT) -> LoadedModel:
    return LoadedModel(project, manifest(b"", name=name), runtime, 1)


def image(value: int, *sides: int, count: int = 1) -> np.ndarray:
    return np.full((count, *(sides or (8, 8)), 3), value, np.uint8)


class Setting:
    """A batcher over one worker, and one model."""

    def __init__(self, *, workers: int = 1, runtime: Mirror | None = None, **limits: Any) -> None:
        self.admission = Admission(workers=workers, max_queue=100)
        chosen = BatchLimits(**({"max_batch": 4, "max_delay_ms": LONG_MS} | limits))
        self.batcher = Batcher(self.admission, lambda _: chosen)
        self.runtime = runtime or Mirror()
        self.model = model_of(self.runtime)
        self.watches: list[Watch] = []

    def ask(
        self,
        images: np.ndarray,
        *,
        outputs: Sequence[str] = (MASK,),
        model: LoadedModel | None = None,
        **terms: Any,
    ) -> asyncio.Task[tuple[list[np.ndarray], float, float]]:
        self.watches.append(Watch())
        return asyncio.create_task(
            self.batcher.run(
                model or self.model, images, outputs, watch=self.watches[-1], call=Call(**terms)
            )
        )

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """Every slot is taken within the block."""
        over = threading.Event()
        free = self.admission._computing.slots.free
        held = [
            asyncio.create_task(self.admission.compute(lambda: over.wait(5), Call()))
            for _ in range(free)
        ]
        await asyncio.sleep(0.01)
        try:
            yield
            await asyncio.sleep(0.01)
        finally:
            over.set()
            await asyncio.gather(*held)

    async def have_company(self) -> None:
        """The model's last run is one of two requests."""
        async with self.busy():
            asked = [self.ask(image(0)), self.ask(image(0))]
        await asyncio.gather(*asked)
        assert self.runtime.sizes == [2]
        self.runtime.runs.clear()


def values(answers: Sequence[tuple[list[np.ndarray], float, float]]) -> list[int]:
    """What each answer's first image was."""
    return [int(outputs[0][0, 0, 0]) for outputs, _, _ in answers]
