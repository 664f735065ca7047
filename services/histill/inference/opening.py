"""Opens images in other processes: decoded where they can be held whole, else by regions."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError
from histill.ml import images
from histill.ml.images import Image, Size, Slide
from histill.ml.masks import Format
from histill.ml.remote import RemoteFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from histill.inference.admission import Admission
    from histill.inference.call import Call
    from histill.inference.computer import Computer
    from histill.inference.models import LoadedModel
    from histill.inference.requests import Limits, Request
    from histill.inference.watch import Watch
    from histill.ml.decoders import Decoders
    from histill.ml.images import Picture


class Opener:
    """Opens what requests bring, beside the computations.

    No file is looked into in this process: each is as hostile as its sender, and those who
    read it are bounded in memory and time. For PNG and JPEG that costs a millisecond.

    Args:
        admission: Bounds what is decoded at a time, and what is large.
        computer: Knows what is large.
        limits: Of sizes.
        decoders: Read files.
    """

    def __init__(
        self, admission: Admission, computer: Computer, limits: Limits, decoders: Decoders
    ) -> None:
        self._decoders = decoders
        self._admission = admission
        self._computer = computer
        self._limits = limits

    @asynccontextmanager
    async def opened(
        self, request: Request, model: LoadedModel, watch: Watch
    ) -> AsyncIterator[tuple[Picture, int]]:
        """A request's image, or the first of its frames, and how many there are.

        Raises:
            HistillError: As ``RemoteFile``, ``images.checked`` and ``Admission``.
        """
        call, limits = request.call, self._limits
        if isinstance(request.source, Image):
            async with self.room(request.source.size, model, call, watch):
                yield images.with_pixel_size(request.source, request.pixel_size_um), 1
            return
        file = RemoteFile(
            self._decoders,
            request.source,
            request.selection,
            max_pixels=limits.pixels,
            max_slide_pixels=limits.slide_pixels,
        )
        with closing(file):
            with watch.stage("decode"):
                found = await self._admission.aside(file.open, call)
            size = found.size if isinstance(found, Slide) else found
            async with self.room(size, model, call, watch):
                picture: Picture
                if isinstance(found, Slide) and self._is_large(size, model):
                    picture = found
                else:
                    with watch.stage("decode"):
                        picture = await self._admission.aside(file.decode, call)
                frames = _frames(request, picture)
                yield images.with_pixel_size(picture, request.pixel_size_um), frames

    async def frame(self, first: Picture, index: int, watch: Watch, call: Call) -> Picture:
        """Another frame of a DICOM image, counted from 0."""
        if not index or not isinstance(first, Image) or first.origin is None:
            return first
        with watch.stage("decode"):
            show = partial(first.origin.frame, index)
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


def _frames(request: Request, picture: Picture) -> int:
    if request.form is not Format.DICOM_SEG or picture.origin is None:
        return 1
    number = picture.origin.frames
    if number > 1 and request.selection.frame:
        raise InvalidArgumentError.of(
            "selection.frame", "MASK_FORMAT_DICOM_SEG covers every frame; leave it 0"
        )
    return number
