"""Pictures of the demo's result: image, reference and masks side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from histill.ml.overlay import draw_overlay

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

_SCALE = 2
_HEAD = 24
_GAP = 8


def write_panel(path: Path, image: Path, masks: Mapping[str, npt.NDArray[np.uint8] | None]) -> None:
    """Writes a row of overlays, each under its name; ``None`` shows the image alone.

    Args:
        path: PNG to write.
        image: Image file that Pillow reads.
        masks: uint8 [H, W] of class indices by name.
    """
    drawn: dict[str, Any] = {}
    for name, mask in masks.items():
        drawn[name] = draw_overlay(image, mask)
    width, height = (_SCALE * side for side in next(iter(drawn.values())).size)
    sheet = Image.new("RGB", (len(drawn) * (width + _GAP) - _GAP, height + _HEAD), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for index, (name, overlay) in enumerate(drawn.items()):
        left = index * (width + _GAP)
        pen.text((left + 4, 3), name, fill="black", font=font)
        resized = overlay.resize((width, height), Image.Resampling.LANCZOS)
        sheet.paste(resized, (left, _HEAD))
    sheet.save(path)
