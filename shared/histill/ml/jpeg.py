"""Pictures for people to look at, as JPEG files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from histill.ml.images import Pixels

# At which a loss is found by measuring, not by looking.
QUALITY = 85
_RGB = 3


def jpeg(pixels: Pixels) -> bytes:
    """Pixels as a JPEG, grey or RGB.

    Args:
        pixels: uint8 [H, W, C], of at most 65,500 rows and columns. Of more than three channels
            the first three are shown, of two the first.
    """
    channels = pixels.shape[2]
    shown = pixels[..., :_RGB] if channels >= _RGB else pixels[..., 0]
    out = io.BytesIO()
    Image.fromarray(shown).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
