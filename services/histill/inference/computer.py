"""Runs images of any size through a model, within the bounds of admission."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from histill.ml.tiling import Canvas, ClassMap, pad

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from histill.inference.admission import Admission
    from histill.inference.call import Call
    from histill.inference.models import LoadedModel
    from histill.inference.runtime import Runtime
    from histill.inference.watch import Watch
    from histill.ml.tiling import Tile

    Pixels = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]

T = TypeVar("T")


def _nobody(_: float) -> None:
    """Progress that nobody asked for."""


class Computer:
    """Classes of pixels, whole where an image fits a tile, tile by tile where not.

    Args:
        admission: Gives out the compute slots.
        tile: Side of a tile in pixels.
        overlap: Of neighbouring tiles in pixels.
    """

    def __init__(self, admission: Admission, *, tile: int, overlap: int) -> None:
        self._admission = admission
        self._tile = tile
        self._overlap = overlap

    def is_large(self, pixels: int) -> bool:
        """Whether an image of that many pixels is cut into tiles."""
        return pixels > self._tile**2

    async def classify(
        self,
        model: LoadedModel,
        pixels: Pixels,
        *,
        watch: Watch,
        call: Call,
        progress: Callable[[float], None] = _nobody,
    ) -> ClassMap:
        """Classes of one image.

        Args:
            model: What to run.
            pixels: uint8 [H, W, C].
            watch: Gets the times of ``queue`` and ``compute``.
            call: After its deadline nothing is computed.
            progress: Called with the share that is done, in [0, 1].

        Raises:
            DeadlineExceededError: The deadline passed before the end.
        """
        if not self.is_large(pixels.shape[0] * pixels.shape[1]):
            found = await self.classify_batch(model, pixels[None], watch=watch, call=call)
            return ClassMap(found.mask[0], found.confidence[0])
        stride = model.runtime.stride
        canvas = Canvas(
            pixels,
            classes=len(model.manifest.classes),
            stride=stride,
            tile=self._tile // stride * stride,
            overlap=self._overlap,
        )
        # A slot for each tile: small images pass in between, and a cancel ends it.
        running: deque[tuple[Tile, asyncio.Task[Floats]]] = deque()
        waiting = iter(canvas.tiles)
        try:
            for number in range(len(canvas.tiles)):
                for tile in islice(waiting, self._admission.workers - len(running)):
                    work = partial(_one_tile, model.runtime, canvas, tile)
                    running.append((tile, asyncio.create_task(self._run(work, 1, watch, call))))
                tile, task = running.popleft()
                await asyncio.to_thread(canvas.add, tile, await task)
                progress((number + 1) / len(canvas.tiles))
        finally:
            for _, task in running:
                task.cancel()
        return await asyncio.to_thread(canvas.result)

    async def classify_batch(
        self, model: LoadedModel, batch: Pixels, *, watch: Watch, call: Call
    ) -> ClassMap:
        """Classes of images of one size that each fit a tile.

        Args:
            model: What to run.
            batch: uint8 [N, H, W, C].
            watch: Gets the times of ``queue`` and ``compute``.
            call: After its deadline nothing is computed.

        Returns:
            Mask and confidence, [N, H, W].
        """
        at_once = max(1, self._tile**2 // (batch.shape[1] * batch.shape[2]))
        parts = []
        for start in range(0, len(batch), at_once):
            part = batch[start : start + at_once]
            work = partial(_whole, model.runtime, part)
            parts.append(await self._run(work, len(part), watch, call))
        if len(parts) == 1:
            return parts[0]
        return ClassMap(
            np.concatenate([part.mask for part in parts]),
            np.concatenate([part.confidence for part in parts]),
        )

    async def _run(
        self,
        work: Callable[[], T],
        size: int,
        watch: Watch,
        call: Call,
    ) -> T:
        started = time.monotonic()
        result, waited = await self._admission.compute(work, call)
        watch.seconds["queue"] += waited
        watch.ran(size, time.monotonic() - started - waited)
        return result


def _whole(runtime: Runtime, batch: Pixels) -> ClassMap:
    height, width = batch.shape[1:3]
    mask, confidence = runtime.classes(pad(batch, multiple=runtime.stride))
    return ClassMap(
        np.ascontiguousarray(mask[:, :height, :width]),
        confidence[:, :height, :width].astype(np.float16),
    )


def _one_tile(runtime: Runtime, canvas: Canvas, tile: Tile) -> Floats:
    found: Floats = runtime.probabilities(canvas.cut(tile))[0]
    return found
