"""Segment images, for programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.client.calls import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import grpc

CHUNK_BYTES = 1 << 20
# Above this a file goes through SegmentLarge, so that no message comes near the limit.
LARGE_BYTES = 16 << 20
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
        mask: In the format that was asked for.
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
        timeout_s: Longest wait for an answer; large images may take ten times that.
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
        confidence_map: bool = False,
        urgent: bool = False,
        pixel_size_um: float = 0.0,
        geojson: pb.GeoJsonOptions | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Segmentation:
        """Segments one image file: PNG, JPEG, TIFF or DICOM, of any size.

        Args:
            image: A path, or the file's bytes.
            model: ``name``, ``name@3`` or ``name@alias``.
            mask_format: ``png``, ``geojson``, ``rle``, ``dicom-seg`` or ``raw``.
            confidence_map: Also ask for the confidence map; not with large files.
            urgent: Overtakes requests that are not (DICOM's priority STAT).
            pixel_size_um: Side of a pixel, where the file does not say it.
            geojson: How GeoJSON is written: simplified, compressed, in micrometres.
            on_progress: Called with the share that is done, of large files.

        Raises:
            InvalidArgumentError: The image or another field is wrong; names it.
            NotFoundError: There is no such model.
            ResourceExhaustedError: The service is still busy after some tries, or the image is
                too large.
        """
        data = image.read_bytes() if isinstance(image, Path) else image
        priority = pb.PRIORITY_STAT if urgent else pb.PRIORITY_ROUTINE
        if len(data) > LARGE_BYTES:
            header = pb.SegmentLargeHeader(
                model=model,
                format=FORMATS[mask_format],
                size_bytes=len(data),
                priority=priority,
                pixel_size_um=pixel_size_um,
                geojson=geojson,
            )
            return self._large(header, data, on_progress)
        request = pb.SegmentRequest(
            model=model,
            encoded=data,
            format=FORMATS[mask_format],
            confidence_map=confidence_map,
            priority=priority,
            pixel_size_um=pixel_size_um,
            geojson=geojson,
        )
        with translated():
            answer = self._stub.Segment(request, timeout=self._timeout_s)
        return Segmentation(answer.mask, answer.summary, answer.confidence_map)

    def models(self) -> Sequence[pb.ServedModel]:
        """The models that can be asked for."""
        with translated():
            return self._stub.ListModels(pb.ListModelsRequest(), timeout=self._timeout_s).models

    def _large(
        self,
        header: pb.SegmentLargeHeader,
        data: bytes,
        on_progress: Callable[[float], None] | None,
    ) -> Segmentation:
        summary, mask = pb.SegmentSummary(), bytearray()
        with translated():
            for answer in self._stub.SegmentLarge(
                large_parts(header, data), timeout=10 * self._timeout_s
            ):
                match answer.WhichOneof("part"):
                    case "progress" if on_progress:
                        on_progress(answer.progress)
                    case "summary":
                        summary = answer.summary
                    case "mask_chunk":
                        mask += answer.mask_chunk
        return Segmentation(bytes(mask), summary)


def large_parts(header: pb.SegmentLargeHeader, data: bytes) -> Iterator[pb.SegmentLargeRequest]:
    """The requests of SegmentLarge for one file: its header, then its bytes in chunks."""
    yield pb.SegmentLargeRequest(header=header)
    for start in range(0, len(data), CHUNK_BYTES):
        yield pb.SegmentLargeRequest(chunk=data[start : start + CHUNK_BYTES])
