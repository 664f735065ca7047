"""Runs images of any size through a model, within the bounds of admission."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from histill.inference.ahead import Ahead
from histill.inference.joint import Wanted, together
from histill.inference.runtime import CONFIDENCE, MASK, PROBABILITIES
from histill.ml.images import Image, fit_channels
from histill.ml.tiling import Canvas, Part, Tile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    import numpy.typing as npt

    from histill.inference.admission import Admission
    from histill.inference.batching import Batcher
    from histill.inference.call import Call
    from histill.inference.models import LoadedModel
    from histill.inference.runtime import Runtime
    from histill.inference.watch import Watch
    from histill.ml.images import Picture

    Pixels = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]
    _Seen = tuple[Pixels, Floats]

T = TypeVar("T")
_BOTH = (MASK, CONFIDENCE)
_CORNER = Tile(0, 0)


@dataclass(frozen=True, eq=False)
class Step:
    """What one run of the network adds to an image.

    Attributes:
        part: Of the mask.
        share: Of the image that is done, in (0, 1].
        pixels: That the network saw, uint8 [h, w, C].
        place: Where they begin in the image.
    """

    part: Part
    share: float
    pixels: Pixels
    place: Tile = _CORNER

    @property
    def seen(self) -> Pixels:
        """What the network saw of the part itself, which lies within what it saw at all."""
        height, width = self.part.mask.shape
        row, column = self.part.row - self.place.row, self.part.column - self.place.column
        return self.pixels[row : row + height, column : column + width]


@dataclass
class _Turn:
    """When the first of some computations began, as ``time.monotonic()`` tells it."""

    came: float | None = None

    def come(self) -> None:
        """It begins now, unless it has."""
        if self.came is None:
            self.came = time.monotonic()


class Computer:
    """Classes of pixels, whole where an image fits a tile, tile by tile where not.

    Args:
        admission: Gives out the compute slots.
        tile: Side of a tile in pixels.
        overlap: Of neighbouring tiles in pixels.
        batcher: Joins images that fit a tile with those of others; without one, and for
            models that it does not join, each request is computed by itself.
    """

    def __init__(
        self, admission: Admission, *, tile: int, overlap: int, batcher: Batcher | None = None
    ) -> None:
        self._admission = admission
        self._batcher = batcher
        self._tile = tile
        self._overlap = overlap
        self._tiled = 0  # images that are computed tile by tile

    def is_large(self, height: int, width: int, *, stride: int) -> bool:
        """Whether an image is cut into tiles, once its sides are multiples of the stride."""
        return _up(height, stride) * _up(width, stride) > self._tile**2

    async def parts(
        self,
        model: LoadedModel,
        picture: Picture,
        *,
        watch: Watch,
        call: Call,
    ) -> AsyncGenerator[Step]:
        """Classes of one image, as they get ready.

        Args:
            model: What to run.
            picture: The image; read tile by tile where it does not fit one.
            watch: Gets the times of ``queue`` and ``compute``.
            call: After its deadline nothing is computed.

        Raises:
            DeadlineExceededError: The deadline passed before the end.
        """
        size, stride = picture.size, model.runtime.stride
        read = partial(_fitted, picture, model.manifest.channels)
        if not self.is_large(size.height, size.width, stride=stride):
            place = 0, 0, size.height, size.width
            fits = picture.channels == model.manifest.channels
            pixels = read(*place) if fits else await asyncio.to_thread(read, *place)
            mask, confidence = await self._whole(model, pixels[None], _BOTH, watch, call)
            yield Step(Part(0, 0, mask[0], confidence[0]), 1.0, pixels)
            return
        canvas = await asyncio.to_thread(
            Canvas,
            size,
            read,
            classes=len(model.manifest.classes),
            stride=stride,
            tile=self._tile // stride * stride,
            overlap=self._overlap,
        )
        self._tiled += 1
        try:
            async with aclosing(self._steps(model, canvas, watch, call)) as steps:
                async for step in steps:
                    yield step
        finally:
            self._tiled -= 1

    async def _steps(
        self, model: LoadedModel, canvas: Canvas, watch: Watch, call: Call
    ) -> AsyncGenerator[Step]:
        """Tile by tile, a slot for each: small images pass in between, and a cancel ends it."""
        turn = _Turn()
        ahead = Ahead(
            (partial(_one_tile, model.runtime, canvas, tile) for tile in canvas.tiles),
            lambda work: self._run(work, 1, watch, call, turn),
            # Large images share the slots out among them.
            active=lambda: max(1, self._admission.workers // self._tiled),
        )
        began = time.monotonic()
        async with aclosing(ahead.results()) as results:
            for number, tile in enumerate(canvas.tiles):
                try:
                    (pixels, found), waited, _ = await anext(results)
                except BaseException:
                    watch.unanswered(began, began if number else turn.came)
                    raise
                if not number:
                    watch.spent("queue", began, began + waited)
                    began += waited
                part = await asyncio.to_thread(canvas.add, tile, found)
                # By the clock: several tiles are computed at a time.
                watch.spent("compute", began, time.monotonic())
                yield Step(part, (number + 1) / len(canvas.tiles), pixels, tile)
                began = time.monotonic()

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
            maps = [await self._joined(model, each, watch, call) for each in batch]
            stacked = [np.stack(values) for values in zip(*maps, strict=True)]
            found: dict[str, Any] = dict(zip(_BOTH, stacked, strict=True))
            return {name: found[name] for name in outputs}
        parts = await self._whole(model, batch, outputs, watch, call)
        return dict(zip(outputs, parts, strict=True))

    async def _joined(
        self, model: LoadedModel, pixels: Pixels, watch: Watch, call: Call
    ) -> tuple[Pixels, Floats]:
        """Mask and confidence of an image of many tiles."""
        mask, confidence = np.empty(pixels.shape[:2], np.uint8), np.empty(pixels.shape[:2], "f4")
        async with aclosing(self.parts(model, Image(pixels), watch=watch, call=call)) as steps:
            async for step in steps:
                part = step.part
                rows = slice(part.row, part.row + part.mask.shape[0])
                columns = slice(part.column, part.column + part.mask.shape[1])
                mask[rows, columns], confidence[rows, columns] = part.mask, part.confidence
        return mask, confidence

    async def _whole(
        self, model: LoadedModel, batch: Pixels, outputs: Sequence[str], watch: Watch, call: Call
    ) -> list[npt.NDArray[Any]]:
        """Outputs of images that fit a tile, as many at once as have its pixels together."""
        height, width = (_up(side, model.runtime.stride) for side in batch.shape[1:3])
        at_once = max(1, self._tile**2 // (height * width))
        parts = []
        for start in range(0, len(batch), at_once):
            part = batch[start : start + at_once]
            if self._batcher is not None and self._batcher.joins(model):
                made, waited, took = await self._batcher.run(
                    model, part, outputs, watch=watch, call=call
                )
            else:
                work = partial(_alone, model.runtime, outputs, part)
                made, waited, took = await self._one(work, len(part), watch, call)
            computing = time.monotonic() - took
            watch.spent("queue", computing - waited, computing)
            watch.spent("compute", computing, computing + took)
            parts.append(made)
        return (
            parts[0] if len(parts) == 1 else [np.concatenate(p) for p in zip(*parts, strict=True)]
        )

    async def _one(
        self, work: Callable[[], T], size: int, watch: Watch, call: Call
    ) -> tuple[T, float, float]:
        """As ``_run``; where there is no result, the watch gets the times all the same."""
        asked, turn = time.monotonic(), _Turn()
        try:
            return await self._run(work, size, watch, call, turn)
        except BaseException:
            watch.unanswered(asked, turn.came)
            raise

    async def _run(
        self, work: Callable[[], T], size: int, watch: Watch, call: Call, turn: _Turn
    ) -> tuple[T, float, float]:
        """The result, seconds of waiting, and seconds of computing."""
        started = time.monotonic()
        result, waited = await self._admission.compute(work, call, turn=turn.come)
        took = time.monotonic() - started - waited
        watch.ran(size, took)
        return result, waited, took


def _up(side: int, stride: int) -> int:
    return -(-side // stride) * stride


def _alone(runtime: Runtime, outputs: Sequence[str], batch: Pixels) -> list[npt.NDArray[Any]]:
    return together(runtime, [Wanted(batch, outputs)])[0]


def _fitted(
    picture: Picture, channels: int, row: int, column: int, height: int, width: int
) -> Pixels:
    return fit_channels(picture.read(row, column, height, width), channels)


def _one_tile(runtime: Runtime, canvas: Canvas, tile: Tile) -> _Seen:
    pixels = canvas.cut(tile)
    return pixels[0], runtime.run([PROBABILITIES], pixels)[0][0]
