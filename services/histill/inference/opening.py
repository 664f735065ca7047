"""Opens images: decoded where they can be held whole, region by region where not."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError
from histill.ml import decoding, dicom, dicom_slides, images
from histill.ml.images import Image, Size, Slide
from histill.ml.masks import Format

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import BinaryIO

    from histill.inference.admission import Admission
    from histill.inference.call import Call
    from histill.inference.computer import Computer
    from histill.inference.models import LoadedModel
    from histill.inference.requests import Limits, Request
    from histill.inference.watch import Watch
    from histill.ml.images import Picture, Selection


class Opener:
    """Opens what requests bring, beside the computations.

    Args:
        admission: Bounds what is decoded at a time, and what is large.
        computer: Knows what is large.
        limits: Of sizes.
    """

    def __init__(self, admission: Admission, computer: Computer, limits: Limits) -> None:
        self._admission = admission
        self._computer = computer
        self._limits = limits

    @asynccontextmanager
    async def opened(
        self, request: Request, model: LoadedModel, watch: Watch
    ) -> AsyncIterator[tuple[Picture, int]]:
        """A request's image, or the first of its frames, and how many there are.

        Raises:
            HistillError: As ``decoding``, ``images.checked`` and ``Admission``.
        """
        call, limits = request.call, self._limits
        if isinstance(request.source, Image):
            async with self.room(request.source.size, model, call, watch):
                yield images.with_pixel_size(request.source, request.pixel_size_um), 1
            return
        with watch.stage("decode"):
            probe = partial(
                decoding.probe,
                request.source,
                request.selection,
                max_pixels=limits.pixels,
                max_slide_pixels=limits.slide_pixels,
            )
            found = await self._admission.aside(probe, call)
        size = found.size if isinstance(found, Slide) else found
        async with self.room(size, model, call, watch):
            picture: Picture
            if isinstance(found, Slide) and self._is_large(size, model):
                picture = found
            else:
                with watch.stage("decode"):
                    decode = partial(_decoded, found, request.source, request.selection, limits)
                    picture = await self._admission.aside(decode, call)
            yield images.with_pixel_size(picture, request.pixel_size_um), _frames(request, picture)

    async def frame(self, first: Picture, index: int, watch: Watch, call: Call) -> Picture:
        """Another frame of a DICOM image, counted from 0."""
        if not index or not isinstance(first, Image) or first.dicom is None:
            return first
        with watch.stage("decode"):
            show = partial(dicom.frame_pixels, first.dicom, index)
            return replace(first, pixels=await self._admission.aside(show, call))

    @asynccontextmanager
    async def room(
        self, size: Size, model: LoadedModel, call: Call, watch: Watch
    ) -> AsyncIterator[None]:
        """Holds the right to the memory of an image of this size."""
        async with AsyncExitStack() as held:
            if self._is_large(size, model):
                with watch.stage("queue"):
                    await held.enter_async_context(self._admission.large(call))
            yield

    def _is_large(self, size: Size, model: LoadedModel) -> bool:
        return self._computer.is_large(size.height, size.width, stride=model.runtime.stride)


def _decoded(found: Size | Slide, file: BinaryIO, selection: Selection, limits: Limits) -> Image:
    if isinstance(found, Slide):
        return decoding.whole(found)
    return decoding.decode(file, selection, max_pixels=limits.pixels)


def _frames(request: Request, picture: Picture) -> int:
    if request.form is not Format.DICOM_SEG or not isinstance(picture, Image):
        return 1
    if picture.dicom is None or dicom_slides.is_slide(picture.dicom):
        return 1  # the frames of a slide are its tiles
    number = dicom.frames(picture.dicom)
    if number > 1 and request.selection.frame:
        raise InvalidArgumentError.of(
            "selection.frame", "MASK_FORMAT_DICOM_SEG covers every frame; leave it 0"
        )
    return number
