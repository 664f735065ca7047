"""Answers in the API's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.inference.regions import Region
from histill.inference.uploads import CHUNK_BYTES
from histill.ml.appearance import FAR
from histill.ml.images import Size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.inference.findings import News
    from histill.inference.requests import Answer


def messages(piece: News) -> Iterator[pb.SegmentLargeResponse]:
    """What SegmentLarge says of something that is ready; bytes of a mask in chunks."""
    match piece:
        case float():
            yield pb.SegmentLargeResponse(progress=piece)
        case Size():
            size = pb.ImageSize(height=piece.height, width=piece.width)
            yield pb.SegmentLargeResponse(size=size)
        case bytes():
            for start in range(0, len(piece), CHUNK_BYTES):
                yield pb.SegmentLargeResponse(mask_chunk=piece[start : start + CHUNK_BYTES])
        case Region():
            region = pb.MaskRegion(
                row=piece.row,
                column=piece.column,
                height=piece.height,
                width=piece.width,
                png=piece.png,
                picture=piece.picture,
                confidence_map=piece.confidence_map,
            )
            yield pb.SegmentLargeResponse(region=region)


def summary(answer: Answer, form: pb.MaskFormat.ValueType) -> pb.SegmentSummary:
    """What is said at last, with the format that was asked for."""
    milliseconds = {f"{stage}_ms": 1000 * each for stage, each in answer.seconds.items()}
    return pb.SegmentSummary(
        model=answer.manifest.reference,
        height=answer.size.height,
        width=answer.size.width,
        classes=[
            pb.ClassSummary(
                index=each.index,
                class_name=answer.manifest.classes[each.index],
                pixels=each.pixels,
                area_mm2=each.area_mm2,
                objects=each.objects,
                mean_confidence=each.mean_confidence,
            )
            for each in answer.found.summary.classes
        ],
        mean_confidence=answer.found.summary.mean_confidence,
        times=pb.StageTimes(**milliseconds),
        format=form or pb.MASK_FORMAT_PNG,
        unfamiliarity=answer.found.unfamiliarity,
        out_of_distribution=answer.found.unfamiliarity > FAR,
    )
