"""From an image to a mask: decode, compute, encode, with a bound on each."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from histill.core.errors import InvalidArgumentError
from histill.inference.watch import Watch
from histill.ml import decoding, images, masks
from histill.ml.appearance import unfamiliarity
from histill.ml.geojson import PLAIN, Outlines
from histill.ml.images import Image, Size
from histill.ml.summary import Summary, summarize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from histill.core.manifests import ModelManifest
    from histill.inference.admission import Admission
    from histill.inference.call import Call
    from histill.inference.computer import Computer
    from histill.inference.directory import Directory
    from histill.inference.models import LoadedModel
    from histill.inference.statistics import Statistics
    from histill.ml.masks import Format
    from histill.ml.tiling import ClassMap


@dataclass(frozen=True, eq=False)
class Request:
    """One image to segment.

    Attributes:
        model: Reference.
        source: An open image file, or decoded pixels.
        form: How to write the mask.
        confidence_map: Also write the confidence map.
        pixel_size_um: Side of a pixel, where the file does not say it; 0 is not known.
        outlines: How GeoJSON is written.
        call: The caller's terms.
    """

    model: str
    source: BinaryIO | Image
    form: Format
    call: Call
    confidence_map: bool = False
    pixel_size_um: float = 0.0
    outlines: Outlines = PLAIN


@dataclass(frozen=True, eq=False)
class Answer:
    """A written mask and what it shows.

    Attributes:
        mask: Bytes of the mask's file.
        confidence_map: Grey PNG; empty unless asked for.
        manifest: The version that answered.
        size: Of the mask.
        summary: Areas, objects, confidences.
        unfamiliarity: How unlike the model's images it is; 0 when theirs are not known.
        seconds: By stage.
    """

    mask: bytes
    confidence_map: bytes
    manifest: ModelManifest
    size: Size
    summary: Summary
    unfamiliarity: float
    seconds: dict[str, float]


class Segmenter:
    """Segments images with served models.

    Args:
        directory: Finds and loads models.
        admission: Bounds what is inside.
        computer: Runs models.
        statistics: Gets the counts.
        max_pixels: Most rows times columns of an image.
    """

    def __init__(
        self,
        directory: Directory,
        admission: Admission,
        computer: Computer,
        statistics: Statistics,
        *,
        max_pixels: int,
    ) -> None:
        self._directory = directory
        self._admission = admission
        self._computer = computer
        self._statistics = statistics
        self._max_pixels = max_pixels

    async def prepare(self, reference: str) -> None:
        """Finds and loads a model, so that a request for it can begin at once.

        Raises:
            HistillError: As ``Directory.get``.
        """
        await self._directory.get(reference)

    async def segment(
        self, request: Request, *, progress: Callable[[float], None] = lambda _: None
    ) -> Answer:
        """Segments one image.

        Args:
            request: The image and what is wanted.
            progress: Called with the share of the computation that is done, in [0, 1].

        Raises:
            HistillError: Those of ``Directory.get``, ``decoding.decode``, ``masks.encode``
                and ``Admission``.
        """
        watch = Watch()
        with self._admission.admitted(request.call):
            model = await self._directory.get(request.model)
            with self._counted(model, watch):
                async with self._decoded(request, model, watch) as decoded:
                    image = images.with_pixel_size(decoded, request.pixel_size_um)
                    masks.check(request.form, image, request.outlines)
                    pixels = images.fit_channels(image.pixels, model.manifest.channels)
                    found = await self._computer.classify(
                        model,
                        pixels,
                        watch=watch,
                        call=request.call,
                        progress=progress,
                    )
                    with watch.stage("encode"):
                        write = partial(_write, found, pixels, image, request, model.manifest)
                        written = await self._admission.aside(write, request.call)
        height, width = found.mask.shape
        mask, confidence_map, summary, unfamiliar = written
        return Answer(
            mask,
            confidence_map,
            model.manifest,
            Size(height, width),
            summary,
            unfamiliar,
            watch.seconds,
        )

    async def infer(
        self, reference: str, batch: npt.NDArray[np.uint8], outputs: Sequence[str], call: Call
    ) -> tuple[LoadedModel, dict[str, npt.NDArray[Any]]]:
        """Outputs of a batch of raw images.

        Args:
            reference: Of the model.
            batch: uint8 [N, H, W, C], none of them empty.
            outputs: Names of those that are wanted.
            call: The caller's terms.

        Returns:
            The model that answered; its outputs by name, [N, H, W].

        Raises:
            InvalidArgumentError: The channels are not the model's; names ``image``.
        """
        watch = Watch()
        size = images.checked(Size(*batch.shape[1:3]), max_pixels=self._max_pixels)
        with self._admission.admitted(call):
            model = await self._directory.get(reference)
            if batch.shape[3] != model.manifest.channels:
                raise InvalidArgumentError.of(
                    images.FIELD,
                    f"it has {batch.shape[3]} channels; the model takes {model.manifest.channels}",
                )
            with self._counted(model, watch, images=len(batch)):
                async with self._room(size, model, call, watch):
                    found = await self._computer.answer(
                        model, batch, outputs, watch=watch, call=call
                    )
        return model, found

    @contextmanager
    def _counted(self, model: LoadedModel, watch: Watch, *, images: int = 1) -> Iterator[None]:
        """Puts a request into metrics and statistics, when it ends."""
        counts = self._statistics.of(model.manifest.reference)
        try:
            yield
        except BaseException:
            counts.failed(watch)
            raise
        counts.answered(watch, images=images)
        watch.report(model.manifest.name)

    @asynccontextmanager
    async def _decoded(
        self, request: Request, model: LoadedModel, watch: Watch
    ) -> AsyncIterator[Image]:
        source, most, call = request.source, self._max_pixels, request.call
        if isinstance(source, Image):
            size = Size(*source.pixels.shape[:2])
            async with self._room(size, model, call, watch):
                yield source
            return
        with watch.stage("decode"):
            size = await self._admission.aside(
                partial(decoding.probe, source, max_pixels=most), call
            )
        async with self._room(size, model, call, watch):
            with watch.stage("decode"):
                image = await self._admission.aside(
                    partial(decoding.decode, source, max_pixels=most), call
                )
            yield image

    @asynccontextmanager
    async def _room(
        self, size: Size, model: LoadedModel, call: Call, watch: Watch
    ) -> AsyncIterator[None]:
        """Holds the right to the memory of an image of this size."""
        async with AsyncExitStack() as held:
            if self._computer.is_large(size.height, size.width, stride=model.runtime.stride):
                with watch.stage("queue"):
                    await held.enter_async_context(self._admission.large(call))
            yield


def _write(
    found: ClassMap,
    pixels: npt.NDArray[np.uint8],
    image: Image,
    request: Request,
    manifest: ModelManifest,
) -> tuple[bytes, bytes, Summary, float]:
    context = masks.MaskContext(image, manifest.classes, manifest.reference, request.outlines)
    return (
        masks.encode(found.mask, request.form, context),
        masks.confidence_png(found.confidence) if request.confidence_map else b"",
        summarize(found, classes=len(manifest.classes), spacing=image.spacing),
        unfamiliarity(pixels, manifest.appearance) if manifest.appearance else 0.0,
    )
