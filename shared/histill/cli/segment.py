"""``histill segment``: images in, masks out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from histill.cli.output import JsonFlag, as_dict, console, print_json
from histill.client import Client
from histill.ml.overlay import draw_overlay

if TYPE_CHECKING:
    from histill.client import Segmentation


class Format(StrEnum):
    """How a mask is written."""

    PNG = "png"
    GEOJSON = "geojson"
    DICOM_SEG = "dicom-seg"
    RLE = "rle"


_SUFFIX = {
    Format.PNG: ".mask.png",
    Format.GEOJSON: ".geojson",
    Format.DICOM_SEG: ".seg.dcm",
    Format.RLE: ".rle.json",
}


def segment(
    images: Annotated[list[Path], typer.Argument(help="PNG, JPEG, TIFF or DICOM.", exists=True)],
    model: Annotated[str, typer.Option(help="name, name@3 or name@alias.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path(),
    mask_format: Annotated[Format, typer.Option("--format", help="Of the mask.")] = Format.PNG,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the outlines.")] = False,
    json: JsonFlag = False,
) -> None:
    """Segments images with a served model."""
    out.mkdir(parents=True, exist_ok=True)
    summaries = []
    with Client.connect() as client:
        for image in images:
            found = client.inference.segment(image, model=model, mask_format=mask_format)
            path = out / f"{image.stem}{_SUFFIX[mask_format]}"
            path.write_bytes(found.mask)
            if overlay:
                drawn = found
                if mask_format is not Format.PNG:
                    drawn = client.inference.segment(image, model=model)
                draw_overlay(image, drawn.mask).save(out / f"{image.stem}.overlay.png")
            summaries.append(as_dict(found.summary) | {"image": str(image), "mask": str(path)})
            if not json:
                console.print(_line(image, path, found), highlight=False)
    if json:
        print_json(summaries)


def _line(image: Path, path: Path, found: Segmentation) -> str:
    summary = found.summary
    times = summary.times
    total = times.decode_ms + times.queue_ms + times.compute_ms + times.encode_ms
    area = max(1, summary.height * summary.width)
    classes = ", ".join(
        f"{c.class_name} {100 * c.pixels / area:.1f} % ({c.objects})" for c in summary.classes[1:]
    )
    return f"{image.name} → {path}: {classes}; {total:.0f} ms with {summary.model}"
