"""Slides through the inference service: how fast, in how much memory, and how sure of its tiles.

Slides of growing size, of which every eighth tile was scanned, go through SegmentLarge to
a student of half a million random weights; each has a process of its own. One that tells
dark from light, whose masks are no noise, writes every form. Then the same picture is cut
into tiles twice, from two corners, by each kind of network.

Writes ``build/benchmarks/large.json`` and prints tables::

    make bench-large
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from conftest import end, run_s3
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.client.segmentation import FORMATS, large_parts
from histill.core.specs import NetworkSpec
from histill.distill.nets import build_network
from histill.ml.images import Image
from histill.ml.tiling import Canvas
from serving_load import noise
from serving_models import STUDENT, write_models
from serving_targets import ours
from slide_files import TILE, sparse
from students import student

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conftest import S3

OUT = Path(__file__).parents[2] / "build" / "benchmarks"
DARK = "dark"
SIDES = (2_048, 8_192, 32_768)
NETWORKS = (
    ("unet", "batch"),
    ("basic_unet", "batch"),
    ("segresnet", "batch"),
    ("attention_unet", "batch"),
    ("unet", "instance"),
)
SHIFTS = (64, 208, 320)
EDGE = 256  # pixels that the shifted picture sees without their surroundings
_SCANNED = 8
console = Console()


@dataclass(frozen=True)
class Run:
    """One slide.

    Attributes:
        side: Rows, and columns.
        model: Which was asked.
        form: Of the mask.
        seconds: From the first byte sent to the last received.
        first_s: Until the first bytes of the mask.
        peak_mb: Most memory of the process, over what it had before.
        mask_mb: Size of the mask's file.
    """

    side: int
    model: str
    form: str
    seconds: float
    first_s: float
    peak_mb: float
    mask_mb: float

    @property
    def megapixels_a_second(self) -> float:
        """Of the slide."""
        return self.side**2 / 1e6 / self.seconds


def slide(side: int) -> bytes:
    """Tissue in every eighth tile, none beside another, and glass in the others."""
    across = -(-side // TILE)
    tissue = noise(TILE)
    everywhere = product(range(across), range(across))
    places = [each for each in everywhere if (3 * each[0] + each[1]) % _SCANNED == 0]
    return sparse(side, side, dict.fromkeys(places, tissue))


def segment(s3: S3, folder: Path, side: int, form: str, *, model: str = STUDENT) -> Run:
    """Sends a slide to a fresh process."""
    data = slide(side)
    settings = {"max_file_bytes": str(4 << 30), "max_upload_bytes": str(4 << 30)}
    with ours(s3, folder, models=(model,), **settings) as target:
        before = _peak_bytes(target.pid)
        began, first, size = time.monotonic(), 0.0, 0
        header = pb.SegmentLargeHeader(
            model=model,
            format=FORMATS.get(form, pb.MASK_FORMAT_PNG),
            size_bytes=len(data),
            regions=form == "regions",
        )
        with grpc.insecure_channel(target.address) as channel:
            stub = rpc.SegmentationServiceStub(channel)
            for part in stub.SegmentLarge(large_parts(header, io.BytesIO(data))):
                written = len(part.mask_chunk) + len(part.region.png)
                if written and not first:
                    first = time.monotonic() - began
                size += written
        seconds = time.monotonic() - began
        peak = _peak_bytes(target.pid) - before
    return Run(side, model, form, seconds, first, peak / 1e6, size / 1e6)


def _peak_bytes(pid: int) -> int:
    """Most memory that a process ever held (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise SystemExit("peak memory is known on Linux only")


def changed(architecture: str, norm: str, *, side: int) -> float:
    """Most share of the pixels that change their class when the grid of tiles is shifted."""
    torch.manual_seed(0)
    spec = NetworkSpec.model_validate({"architecture": architecture, "norm": norm, "width": 12})
    net = build_network(spec, channels=3, classes=3).eval()
    picture = np.tile(noise(side // 2), (2, 2, 1))
    there = _mask(net, picture, spec.stride)
    found = []
    for shift in SHIFTS:
        here = _mask(net, picture[shift:, shift:], spec.stride)
        start = shift + EDGE
        found.append(float(np.mean(here[EDGE:, EDGE:] != there[start:, start:])))
    return max(found)


def _mask(net: torch.nn.Module, pixels: np.ndarray, stride: int) -> np.ndarray:
    image = Image(np.ascontiguousarray(pixels))
    canvas = Canvas(image.size, image.read, classes=3, stride=stride, tile=768, overlap=128)
    mask = np.empty(pixels.shape[:2], np.uint8)
    for tile in canvas.tiles:
        batch = torch.from_numpy(canvas.cut(tile)).permute(0, 3, 1, 2).float() / 255 - 0.5
        with torch.inference_mode():
            part = canvas.add(tile, net(batch).softmax(dim=1)[0].numpy())
        height, width = part.mask.shape
        mask[part.row : part.row + height, part.column : part.column + width] = part.mask
    return mask


def runs(s3: S3, folder: Path, sides: Sequence[int]) -> Iterator[Run]:
    """Every size with a student; one size in every form, of masks that are no noise."""
    for side in sides:
        yield segment(s3, folder, side, "png")
    (folder / f"{DARK}.onnx").write_bytes(student(classes=3))
    for form in ("png", "raw", "geojson", "regions"):
        yield segment(s3, folder, sorted(sides)[len(sides) // 2], form, model=DARK)


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="of slides")
    parser.add_argument("--out", type=Path, default=OUT, help="folder (build/benchmarks)")
    given = parser.parse_args()
    folder = given.out.resolve() / "large"
    folder.mkdir(parents=True, exist_ok=True)
    write_models(folder)
    s3 = run_s3(folder / "s3")
    table = Table(
        "side", "model", "mask", "s", "Mpixel/s", "first bytes s", "peak MB over idle", "file MB"
    )
    found = []
    try:
        for run in runs(s3, folder, given.sides):
            found.append(run)
            numbers = (run.seconds, run.megapixels_a_second, run.first_s, run.peak_mb, run.mask_mb)
            table.add_row(
                str(run.side), run.model, run.form, *(f"{number:.1f}" for number in numbers)
            )
    finally:
        end(s3.server)
    console.print(table)
    moved = {f"{name}, {norm} norm": changed(name, norm, side=2_048) for name, norm in NETWORKS}
    shifted = Table("network", "pixels changed by a shifted grid, at most")
    for name, share in moved.items():
        shifted.add_row(name, f"{share:.3%}")
    console.print(shifted)
    report = {"runs": [asdict(each) for each in found], "changed": moved, "cores": os.cpu_count()}
    (given.out / "large.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
