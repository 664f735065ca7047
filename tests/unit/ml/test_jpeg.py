"""Pictures as JPEG."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from histill.ml.jpeg import jpeg


@pytest.mark.parametrize(
    ("channels", "mode", "shown"), [(1, "L", 1), (2, "L", 1), (3, "RGB", 3), (5, "RGB", 3)]
)
def test_whatever_its_channels_an_image_can_be_looked_at(
    channels: int, mode: str, shown: int
) -> None:
    """Grey or RGB, of the first channels, within the loss of JPEG."""
    levels = np.linspace(20, 220, channels)
    ramp = np.linspace(-20, 20, 48)[:, None, None] + np.zeros((48, 31, 1))
    pixels = (ramp + levels).astype(np.uint8)
    with Image.open(io.BytesIO(jpeg(pixels))) as opened:
        assert (opened.format, opened.mode, opened.size) == ("JPEG", mode, (31, 48))
        found = np.asarray(opened, np.int16).reshape(48, 31, shown)
    assert np.abs(found - pixels[..., :shown]).max() <= 4


def test_a_rectangle_of_a_larger_image_is_written_alone() -> None:
    """Views are written as what they show, whatever lies beside them in memory."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[10:30, 8:24] = 200
    with Image.open(io.BytesIO(jpeg(pixels[10:30, 8:24]))) as opened:
        found = np.asarray(opened, np.int16)
    assert found.shape == (20, 16, 3)
    assert np.abs(found - 200).max() <= 1
