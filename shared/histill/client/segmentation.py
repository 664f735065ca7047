"""Segment images, for programs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.client.calls import translated
from histill.core.errors import InvalidArgumentError, TooLargeForOneMessageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import grpc

CHUNK_BYTES = 1 << 20
# Above this a file goes through SegmentLarge, so that no message comes near the limit.
LARGE_BYTES = 16 << 20
# Names under which scanners save slides.
SLIDES = frozenset({".svs", ".ndpi", ".scn", ".bif", ".czi"})
FORMATS = {
    "png": pb.MASK_FORMAT_PNG,
    "geojson": pb.MASK_FORMAT_GEOJSON,
    "rle": pb.MASK_FORMAT_RLE,
    "dicom-seg": pb.MASK_FORMAT_DICOM_SEG,
    "raw": pb.MASK_FORMAT_RAW,
}


@dataclass(frozen=True)
class Segmentation:
    """A mask as a file's bytes, and what it shows.

    Attributes:
        mask: In the format that was asked for; empty when it went elsewhere.
        summary: Size, classes with areas and confidences, times.
        confidence_map: Grey PNG, winning probability times 255; empty unless asked for.
    """

    mask: bytes
    summary: pb.SegmentSummary
    confidence_map: bytes = b""


class Segmenter:
    """Calls the inference service.

    Args:
        channel: Channel to the inference service.
        timeout_s: Longest wait for an answer; of large files see ``large_timeout_s``.
    """

    def __init__(self, channel: grpc.Channel, *, timeout_s: float) -> None:
        self._stub = rpc.SegmentationServiceStub(channel)
        self._timeout_s = timeout_s

    def segment(
        self,
        image: Path | bytes,
        *,
        model: str,
        mask_format: str = "png",
        out: BinaryIO | None = None,
        confidence_map: bool = False,
        urgent: bool = False,
        pixel_size_um: float = 0.0,
        geojson: pb.GeoJsonOptions | None = None,
        frame: int = 0,
        level: int = 0,
        empty_frames: bool = False,
        on_progress: Callable[[float], None] | None = None,
    ) -> Segmentation:
        """Segments one image file, PNG, JPEG, TIFF or DICOM, or a slide, of any size.

        Args:
            image: A path, or the file's bytes.
            model: ``name``, ``name@3`` or ``name@alias``.
            mask_format: ``png``, ``geojson``, ``rle``, ``dicom-seg`` or ``raw``.
            out: Gets the mask as it comes, so that it is nowhere held whole; the result's is
                empty then.
            confidence_map: Also ask for the confidence map; not with large files.
            urgent: Overtakes requests that are not (DICOM's priority STAT).
            pixel_size_um: Side of a pixel, where the file does not say it.
            geojson: How GeoJSON is written: simplified, compressed, in micrometres.
            frame: Of a multi-frame DICOM image, from 1.
            level: Of a slide's pyramid; 0 is the full resolution.
            empty_frames: Write frames of DICOM SEG in which nothing was found, too.
            on_progress: Called with the share that is done, of large files.

        Raises:
            InvalidArgumentError: The image or another field is wrong; names it.
            NotFoundError: There is no such model.
            ResourceExhaustedError: The service is still busy after some tries, or the image is
                too large.
        """
        asked: dict[str, Any] = {
            "model": model,
            "format": FORMATS[mask_format],
            "priority": pb.PRIORITY_STAT if urgent else pb.PRIORITY_ROUTINE,
            "pixel_size_um": pixel_size_um,
            "geojson": geojson,
            "selection": pb.Selection(frame=frame, level=level),
            "empty_frames": empty_frames,
        }
        header = pb.SegmentLargeHeader(**asked)
        if out is not None or is_large(image):
            if confidence_map:
                raise InvalidArgumentError.of("confidence_map", "is not made of large files")
            return self._streamed(header, image, out, on_progress)
        encoded = image if isinstance(image, bytes) else image.read_bytes()
        request = pb.SegmentRequest(encoded=encoded, confidence_map=confidence_map, **asked)
        try:
            with translated():
                whole = self._stub.Segment(request, timeout=self._timeout_s)
        except TooLargeForOneMessageError:  # a small file may show a large image
            if confidence_map:
                raise
            return self._streamed(header, image, out, on_progress)
        return Segmentation(whole.mask, whole.summary, whole.confidence_map)

    def regions(
        self,
        image: Path | bytes,
        *,
        model: str,
        urgent: bool = False,
        pixel_size_um: float = 0.0,
        frame: int = 0,
        level: int = 0,
        picture: bool = False,
        confidence_map: bool = False,
    ) -> Iterator[pb.MaskRegion | pb.SegmentSummary]:
        """Segments an image of any size and gives its mask region by region.

        Args:
            image: A path, or the file's bytes.
            model: ``name``, ``name@3`` or ``name@alias``.
            urgent: Overtakes requests that are not.
            pixel_size_um: Side of a pixel, where the file does not say it.
            frame: Of a multi-frame DICOM image, from 1.
            level: Of a slide's pyramid; 0 is the full resolution.
            picture: Each region also holds what the model saw there, as a JPEG.
            confidence_map: Each region also holds its confidence map, as of ``segment``.

        Yields:
            Regions, as they are done, which cover the image once; then the summary, which
            tells the image's size.

        Raises:
            HistillError: As ``segment``.
        """
        header = pb.SegmentLargeHeader(
            model=model,
            priority=pb.PRIORITY_STAT if urgent else pb.PRIORITY_ROUTINE,
            pixel_size_um=pixel_size_um,
            selection=pb.Selection(frame=frame, level=level),
            regions=True,
            picture=picture,
            confidence_map=confidence_map,
        )
        for answer in self._large(header, image):
            match answer.WhichOneof("part"):
                case "region":
                    yield answer.region
                case "summary":
                    yield answer.summary

    def models(self) -> Sequence[pb.ServedModel]:
        """The models that can be asked for."""
        with translated():
            return self._stub.ListModels(pb.ListModelsRequest(), timeout=self._timeout_s).models

    def _streamed(
        self,
        header: pb.SegmentLargeHeader,
        image: Path | bytes,
        out: BinaryIO | None,
        on_progress: Callable[[float], None] | None,
    ) -> Segmentation:
        summary, mask = pb.SegmentSummary(), io.BytesIO()
        for answer in self._large(header, image):
            match answer.WhichOneof("part"):
                case "progress" if on_progress:
                    on_progress(answer.progress)
                case "summary":
                    summary = answer.summary
                case "mask_chunk":
                    (out or mask).write(answer.mask_chunk)
        return Segmentation(mask.getvalue(), summary)

    def _large(
        self, header: pb.SegmentLargeHeader, image: Path | bytes
    ) -> Iterator[pb.SegmentLargeResponse]:
        header.size_bytes = _size(image)
        opened = io.BytesIO(image) if isinstance(image, bytes) else image.open("rb")
        timeout_s = large_timeout_s(self._timeout_s, header.size_bytes)
        with translated(), opened:
            yield from self._stub.SegmentLarge(large_parts(header, opened), timeout=timeout_s)


def _size(image: Path | bytes) -> int:
    return len(image) if isinstance(image, bytes) else image.stat().st_size


def is_large(image: Path | bytes) -> bool:
    """Whether its answer may not fit a message, or its file."""
    slide = isinstance(image, Path) and image.suffix.lower() in SLIDES
    return slide or _size(image) > LARGE_BYTES


def large_timeout_s(timeout_s: float, size_bytes: int) -> float:
    """Longest wait for the whole answer of SegmentLarge, in seconds.

    Args:
        timeout_s: Longest wait for the answer to a small file.
        size_bytes: Of the file.
    """
    return 10 * timeout_s * max(1.0, size_bytes / LARGE_BYTES)


def large_parts(header: pb.SegmentLargeHeader, file: BinaryIO) -> Iterator[pb.SegmentLargeRequest]:
    """The requests of SegmentLarge for one file: its header, then its bytes in chunks."""
    yield pb.SegmentLargeRequest(header=header)
    while chunk := file.read(CHUNK_BYTES):
        yield pb.SegmentLargeRequest(chunk=chunk)
