"""From an image to a mask: open, compute, write, with a bound on each."""

from __future__ import annotations

from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from histill.core.errors import InvalidArgumentError, ResourceExhaustedError
from histill.inference import measures
from histill.inference.findings import Findings
from histill.inference.measures import Refusal
from histill.inference.owned import Owned
from histill.inference.regions import RegionForm
from histill.inference.requests import Answer
from histill.inference.watch import Watch
from histill.ml import images, masks
from histill.ml.images import Size
from histill.ml.masks import MaskContext

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from histill.core.manifests import ModelManifest
    from histill.inference.admission import Admission
    from histill.inference.call import Call
    from histill.inference.computer import Computer, Step
    from histill.inference.directory import Directory
    from histill.inference.findings import News
    from histill.inference.models import LoadedModel
    from histill.inference.opening import Opener
    from histill.inference.requests import Limits, Request
    from histill.inference.statistics import Statistics
    from histill.ml.images import Picture
    from histill.ml.masks import Writer


class Segmenter:
    """Segments images with served models.

    Args:
        directory: Finds and loads models.
        admission: Bounds what is inside.
        computer: Runs models.
        opener: Opens images.
        statistics: Gets the counts.
        limits: Of sizes.
    """

    def __init__(
        self,
        directory: Directory,
        admission: Admission,
        computer: Computer,
        opener: Opener,
        statistics: Statistics,
        limits: Limits,
    ) -> None:
        self._directory = directory
        self._admission = admission
        self._computer = computer
        self._opener = opener
        self._statistics = statistics
        self._limits = limits

    async def prepare(self, reference: str, call: Call) -> None:
        """Finds and loads a model, so that a request for it can begin at once.

        Raises:
            HistillError: As ``Directory.get``.
        """
        await self._directory.get(Owned(call.project, reference))

    async def segment(self, request: Request, deliver: Callable[[News], Awaitable[None]]) -> Answer:
        """Segments one image.

        Args:
            request: The image and what is wanted.
            deliver: Takes the mask piece by piece, and in between the share of the image that
                is done, in (0, 1]; before regions the image's size.

        Raises:
            HistillError: Those of ``Directory.get``, ``Opener``, ``masks.writer`` and
                ``Admission``.
        """
        watch, call = Watch(), request.call
        with self._admission.admitted(call):
            model = await self._directory.get(Owned(call.project, request.model))
            with self._counted(model, watch):
                async with self._opener.opened(request, model, watch) as (picture, frames):
                    self._limits.check(request, picture.size, frames=frames)
                    findings = _findings(
                        request, picture, model.manifest, most_held=self._limits.pixels
                    )
                    if isinstance(request.form, RegionForm):
                        await deliver(picture.size)
                    parts = self._parts(model, picture, frames, watch, call)
                    async with aclosing(parts):
                        async for step in parts:
                            with watch.stage("encode"):
                                add = partial(findings.add, step)
                                ready = await self._admission.aside(add, call)
                            for piece in ready:
                                await deliver(piece)
                            await deliver(step.share)
        found = findings.found
        if found is None:
            raise RuntimeError("an image without parts")
        return Answer(found, model.manifest, picture.size, watch.seconds)

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
        size = images.checked(Size(*batch.shape[1:3]), max_pixels=self._limits.pixels)
        with self._admission.admitted(call):
            model = await self._directory.get(Owned(call.project, reference))
            if batch.shape[3] != model.manifest.channels:
                raise InvalidArgumentError.of(
                    images.FIELD,
                    f"it has {batch.shape[3]} channels; the model takes {model.manifest.channels}",
                )
            with self._counted(model, watch, images=len(batch)):
                async with self._opener.room(size, model, call, watch):
                    found = await self._computer.answer(
                        model, batch, outputs, watch=watch, call=call
                    )
        return model, found

    async def _parts(
        self,
        model: LoadedModel,
        first: Picture,
        frames: int,
        watch: Watch,
        call: Call,
    ) -> AsyncGenerator[Step]:
        """Of one frame after the other, with the share of all that is done."""
        for frame in range(frames):
            picture = await self._opener.frame(first, frame, watch, call)
            parts = self._computer.parts(model, picture, watch=watch, call=call)
            async with aclosing(parts):
                async for step in parts:
                    yield replace(step, share=(frame + step.share) / frames)

    @contextmanager
    def _counted(self, model: LoadedModel, watch: Watch, *, images: int = 1) -> Iterator[None]:
        """Puts a request into metrics and statistics, when it ends."""
        counts = self._statistics.of(model.owned)
        try:
            yield
        except MemoryError as exc:
            counts.failed(watch)
            measures.refused(Refusal.MEMORY)
            raise ResourceExhaustedError(
                "not enough memory for an image of this size", retry_after_s=1.0
            ) from exc
        except BaseException:
            counts.failed(watch)
            raise
        finally:
            watch.trace(model)
        counts.answered(watch, images=images)
        watch.report(model.project, model.manifest.name)


def _findings(
    request: Request, picture: Picture, manifest: ModelManifest, *, most_held: int
) -> Findings:
    writer: Writer | RegionForm
    if isinstance(request.form, RegionForm):
        writer = request.form
    else:
        masks.check(request.form, picture, request.outlines)
        context = MaskContext(
            picture,
            manifest.classes,
            manifest.reference,
            request.outlines,
            request.empty_frames,
            most_held=most_held,
        )
        writer = masks.writer(request.form, context)
    return Findings(picture, manifest, writer, confidence_map=request.confidence_map)
