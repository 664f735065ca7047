"""Runs images of any size through a model, within the bounds of admission."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from histill.inference.runtime import CONFIDENCE, MASK, PROBABILITIES
from histill.ml.tiling import Canvas, ClassMap, pad

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
_BOTH = (MASK, CONFIDENCE)


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

    def is_large(self, height: int, width: int, *, stride: int) -> bool:
        """Whether an image is cut into tiles, once its sides are multiples of the stride."""
        return _up(height, stride) * _up(width, stride) > self._tile**2

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
        stride = model.runtime.stride
        if not self.is_large(*pixels.shape[:2], stride=stride):
            parts = await self._whole(model, pixels[None], _BOTH, watch, call)
            return ClassMap(*(part[0] for part in parts))
        canvas = Canvas(
            pixels,
            classes=len(model.manifest.classes),
            stride=stride,
            tile=self._tile // stride * stride,
            overlap=self._overlap,
        )
        # A slot for each tile: small images pass in between, and a cancel ends it.
        running: deque[tuple[Tile, asyncio.Task[tuple[Floats, float, float]]]] = deque()
        waiting, began = iter(canvas.tiles), time.monotonic()
        try:
            for number in range(len(canvas.tiles)):
                for tile in islice(waiting, self._admission.workers - len(running)):
                    work = partial(_one_tile, model.runtime, canvas, tile)
                    running.append((tile, asyncio.create_task(self._run(work, 1, watch, call))))
                tile, task = running.popleft()
                found, waited, _ = await task
                if not number:
                    watch.seconds["queue"] += waited
                    began += waited
                await asyncio.to_thread(canvas.add, tile, found)
                progress((number + 1) / len(canvas.tiles))
        finally:
            for _, task in running:
                task.cancel()
            # By the clock: several tiles are computed at a time.
            watch.seconds["compute"] += time.monotonic() - began
        return await asyncio.to_thread(canvas.result)

    async def answer(
        self,
        model: LoadedModel,
        batch: Pixels,
        outputs: Sequence[str],
        *,
        watch: Watch,
        call: Call,
    ) -> dict[str, npt.NDArray[Any]]:
        """Outputs of images of one size.

        Args:
            model: What to run.
            batch: uint8 [N, H, W, C].
            outputs: ``MASK``, ``CONFIDENCE`` or both.
            watch: Gets the times of ``queue`` and ``compute``.
            call: After its deadline nothing is computed.

        Returns:
            [N, H, W] by output.

        Raises:
            DeadlineExceededError: The deadline passed before the end.
        """
        if self.is_large(*batch.shape[1:3], stride=model.runtime.stride):
            maps = [await self.classify(model, each, watch=watch, call=call) for each in batch]
            found = {
                MASK: np.stack([each.mask for each in maps]),
                CONFIDENCE: np.stack([each.confidence for each in maps]),
            }
            return {name: found[name] for name in outputs}
        parts = await self._whole(model, batch, outputs, watch, call)
        return dict(zip(outputs, parts, strict=True))

    async def _whole(
        self, model: LoadedModel, batch: Pixels, outputs: Sequence[str], watch: Watch, call: Call
    ) -> list[npt.NDArray[Any]]:
        """Outputs of images that fit a tile, as many at once as have its pixels together."""
        height, width = (_up(side, model.runtime.stride) for side in batch.shape[1:3])
        at_once = max(1, self._tile**2 // (height * width))
        parts = []
        for start in range(0, len(batch), at_once):
            part = batch[start : start + at_once]
            work = partial(_padded, model.runtime, outputs, part)
            made, waited, took = await self._run(work, len(part), watch, call)
            watch.seconds["queue"] += waited
            watch.seconds["compute"] += took
            parts.append(made)
        return (
            parts[0] if len(parts) == 1 else [np.concatenate(p) for p in zip(*parts, strict=True)]
        )

    async def _run(
        self, work: Callable[[], T], size: int, watch: Watch, call: Call
    ) -> tuple[T, float, float]:
        """The result, seconds of waiting, and seconds of computing."""
        started = time.monotonic()
        result, waited = await self._admission.compute(work, call)
        took = time.monotonic() - started - waited
        watch.runs.append((size, took))
        return result, waited, took


def _up(side: int, stride: int) -> int:
    return -(-side // stride) * stride


def _padded(runtime: Runtime, outputs: Sequence[str], batch: Pixels) -> list[npt.NDArray[Any]]:
    height, width = batch.shape[1:3]
    found = runtime.run(outputs, pad(batch, multiple=runtime.stride))
    return [np.ascontiguousarray(values[:, :height, :width]) for values in found]


def _one_tile(runtime: Runtime, canvas: Canvas, tile: Tile) -> Floats:
    found: Floats = runtime.run([PROBABILITIES], canvas.cut(tile))[0][0]
    return found
