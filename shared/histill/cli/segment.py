"""``histill segment``: images in, masks out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.cli.output import JsonFlag, complain, print_json, say
from histill.client import Client
from histill.client.segmentation import SLIDES, is_large
from histill.core.errors import InvalidArgumentError, ResourceExhaustedError
from histill.core.json_form import as_dict
from histill.ml.images import Selection
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

# Only these are cut off: the last part of a DICOM file's name is often a number.
_KNOWN = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", *SLIDES})


def segment(  # noqa: PLR0917 - a command's flags are its parameters
    images: Annotated[
        list[Path], typer.Argument(help="PNG, JPEG, TIFF, DICOM, slides.", exists=True)
    ],
    model: Annotated[str, typer.Option(help="name, name@3 or name@alias.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path(),
    mask_format: Annotated[Format, typer.Option("--format", help="Of the mask.")] = Format.PNG,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the outlines.")] = False,
    pixel_size_um: Annotated[float, typer.Option(help="Where the file does not say it.")] = 0.0,
    simplify: Annotated[float, typer.Option(help="GeoJSON: most pixels off the edges.")] = 0.0,
    gzip: Annotated[bool, typer.Option("--gzip", help="GeoJSON: compressed.")] = False,
    micrometres: Annotated[bool, typer.Option("--um", help="GeoJSON: in micrometres.")] = False,
    frame: Annotated[int, typer.Option(help="Of a multi-frame DICOM image, from 1.")] = 0,
    level: Annotated[int, typer.Option(help="Of a slide; 0 is the full resolution.")] = 0,
    empty_frames: Annotated[
        bool, typer.Option("--empty-frames", help="DICOM SEG: also where nothing is.")
    ] = False,
    stat: Annotated[bool, typer.Option("--stat", help="Overtake requests that are not.")] = False,
    json: JsonFlag = False,
) -> None:
    """Segments images with a served model."""
    targets = _targets(images, out)
    options = pb.GeoJsonOptions(tolerance=simplify, gzip=gzip, micrometres=micrometres)
    suffix = _SUFFIX[mask_format] + (".gz" if gzip and mask_format is Format.GEOJSON else "")
    out.mkdir(parents=True, exist_ok=True)
    summaries, failed = [], False
    with Client.connect() as client:
        for image, stem in targets.items():
            path = out / f"{stem}{suffix}"
            try:
                found = _saved(
                    client,
                    image,
                    path,
                    model=model,
                    mask_format=mask_format,
                    urgent=stat,
                    pixel_size_um=pixel_size_um,
                    geojson=options,
                    frame=frame,
                    level=level,
                    empty_frames=empty_frames,
                )
                if overlay:
                    mask = path.read_bytes() if mask_format is Format.PNG else None
                    if mask is None:
                        again = client.inference.segment(
                            image, model=model, urgent=stat, frame=frame, level=level
                        )
                        mask = again.mask
                    drawn = draw_overlay(image, mask, Selection(frame, level))
                    drawn.save(out / f"{stem}.overlay.png")
            except (InvalidArgumentError, ResourceExhaustedError) as exc:
                # One bad or too large file keeps nobody from the others.
                failed = True
                complain(f"{image}: {exc}")
                continue
            summaries.append(as_dict(found.summary) | {"image": str(image), "mask": str(path)})
            if not json:
                say(_line(image, path, found))
    if json:
        print_json(summaries)
    if failed:
        raise typer.Exit(1)


def _saved(client: Client, image: Path, path: Path, **asked: Any) -> Segmentation:
    """Writes a mask; nothing half-done is left under its name."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            large = is_large(image)
            found = client.inference.segment(image, out=file if large else None, **asked)
            file.write(found.mask)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return found


def _targets(images: list[Path], out: Path) -> dict[Path, str]:
    """Names of the results, without what they end in.

    Raises:
        InvalidArgumentError: Two images would write the same files.
    """
    names: dict[str, Path] = {}
    for image in images:
        known = image.suffix.lower() in _KNOWN
        name = image.stem if known else image.name
        if name in names:
            words = f"{names[name]} and {image} would both write {out / name}.*; go one by one"
            raise InvalidArgumentError.of("images", words)
        names[name] = image
    return {image: name for name, image in names.items()}


def _line(image: Path, path: Path, found: Segmentation) -> str:
    summary = found.summary
    times = summary.times
    total = times.decode_ms + times.queue_ms + times.compute_ms + times.encode_ms
    area = max(1, sum(each.pixels for each in summary.classes))  # of every frame
    classes = ", ".join(
        f"{c.class_name} {100 * c.pixels / area:.1f} % ({c.objects})" for c in summary.classes[1:]
    )
    unlike = "; UNLIKE ITS TRAINING IMAGES" if summary.out_of_distribution else ""
    return f"{image.name} → {path}: {classes}; {total:.0f} ms with {summary.model}{unlike}"
