"""What pictures and confidence maps cost beside the regions of a mask, and how soon regions come.

An image of 1024 x 1024 pixels and a slide of 8192 x 8192, tissue all over, go through SegmentLarge
to the student of ``make bench-serving``, whose weights are random, and to one that tells dark from
light, whose masks are no noise; with each of the two, with both and with neither by turns. Prints
medians, ratios and processor time::

    PYTHONPATH=tests OMP_WAIT_POLICY=passive .venv/bin/python tests/benchmarks/region_pictures.py
"""

from __future__ import annotations

import argparse
import io
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import grpc
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from conftest import end, run_s3
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.client.segmentation import large_parts
from serving_models import STUDENT, write_models
from serving_targets import ours
from slide_files import TILE, sparse
from students import student

if TYPE_CHECKING:
    from serving_targets import Target

SAMPLE = Path(__file__).parents[2] / "services/histill/web/static/sample.jpg"
DARK = "dark"
# Whether pictures and confidence maps are asked for.
ASKED = {
    "mask alone": (False, False),
    "picture": (True, False),
    "confidence map": (False, True),
    "both": (True, True),
}
WARM = 3  # calls before it counts


@dataclass(frozen=True)
class Call:
    """One image that was segmented.

    Attributes:
        seconds: From the first byte sent to the last received.
        first_s: Until the first region.
        encode_s: Of the stage in which masks and pictures are written.
        cpu_s: Processor time of the service and its decoders.
        megabytes: Of all regions.
    """

    seconds: float
    first_s: float
    encode_s: float
    cpu_s: float
    megabytes: float


def tissue(side: int) -> np.ndarray:
    """The sample over and over, each time turned another way, uint8 [side, side, 3]."""
    with Image.open(SAMPLE) as opened:
        piece = np.asarray(opened.convert("RGB"))
    four = np.block([[[piece], [piece[:, ::-1]]], [[piece[::-1]], [piece[::-1, ::-1]]]])
    times = -(-side // four.shape[0])
    return np.tile(four, (times, times, 1))[:side, :side]


def png(side: int) -> bytes:
    """Tissue as a PNG."""
    out = io.BytesIO()
    Image.fromarray(tissue(side)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def slide(side: int) -> bytes:
    """Tissue as a slide of tiles."""
    four = tissue(4 * TILE)
    across = range(-(-side // TILE))
    tiles = {
        (row, column): four[
            row % 4 * TILE : (row % 4 + 1) * TILE, column % 4 * TILE : (column % 4 + 1) * TILE
        ]
        for row in across
        for column in across
    }
    return sparse(side, side, tiles)


def call(target: Target, model: str, data: bytes, asked: tuple[bool, bool]) -> Call:
    """Segments an image by regions."""
    picture, confidence_map = asked
    header = pb.SegmentLargeHeader(
        model=model,
        size_bytes=len(data),
        regions=True,
        picture=picture,
        confidence_map=confidence_map,
    )
    first, size, encode_ms, used = 0.0, 0, 0.0, target.cpu_seconds()
    with grpc.insecure_channel(target.address) as channel:
        stub = rpc.SegmentationServiceStub(channel)
        began = time.monotonic()
        for part in stub.SegmentLarge(large_parts(header, io.BytesIO(data))):
            if part.WhichOneof("part") == "region":
                first = first or time.monotonic() - began
            size += part.region.ByteSize()
            encode_ms += part.summary.times.encode_ms
        seconds = time.monotonic() - began
    return Call(seconds, first, encode_ms / 1000, target.cpu_seconds() - used, size / 1e6)


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=15, help="calls of the small image")
    parser.add_argument("--slides", type=int, default=3, help="calls of the slide")
    parser.add_argument("--tile", default="768", help="the service's HISTILL_INFERENCE__TILE")
    given = parser.parse_args()
    columns = ("image", "model", "asked", "s", "ratio", "first region s", "encode s", "CPU s", "MB")
    table = Table(*columns)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder)
        (folder / f"{DARK}.onnx").write_bytes(student(classes=3))
        s3 = run_s3(folder / "s3")
        try:
            limits = {"max_upload_bytes": str(4 << 30), "tile": given.tile}
            with ours(s3, folder, models=(STUDENT, DARK), **limits) as target:
                for image, data, times in (
                    ("1024 PNG", png(1024), given.times),
                    ("8192 slide", slide(8192), given.slides),
                ):
                    for model in (STUDENT, DARK) if times else ():
                        rows(table, target, image, model, data, times)
        finally:
            end(s3.server)
    Console(width=120).print(table)


def rows(
    table: Table,
    target: Target,
    image: str,
    model: str,
    data: bytes,
    times: int,
) -> None:
    """Adds what one image costs in each way, which go round by turns."""
    for _ in range(min(WARM, times)):
        call(target, model, data, ASKED["both"])
    made = [[call(target, model, data, asked) for asked in ASKED.values()] for _ in range(times)]
    plain = median(each[0].seconds for each in made)
    for index, asked in enumerate(ASKED):
        calls = [each[index] for each in made]
        seconds = median(each.seconds for each in calls)
        table.add_row(
            image,
            model,
            asked,
            f"{seconds:.3f}",
            f"{seconds / plain:.2f}",
            f"{median(each.first_s for each in calls):.3f}",
            f"{median(each.encode_s for each in calls):.3f}",
            f"{mean(each.cpu_s for each in calls):.3f}",
            f"{calls[0].megabytes:.1f}",
        )


if __name__ == "__main__":
    main()
