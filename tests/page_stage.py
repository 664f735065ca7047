"""What the page's stage shows: its canvas as pixels, beside what it must show."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from histill.ml.colors import color

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from playwright.sync_api import Page

    from page_images import Pixels

_WANTED_S = 20.0
# Everything that is to be drawn is drawn, and nothing moves any more.
_SETTLED = """
(id) => {
  const viewer = OpenSeadragon.getViewer(id);
  if (!viewer || !viewer.isOpen() || !viewer.world.getItemCount()) return false;
  const { viewport, world } = viewer;
  const items = Array.from({ length: world.getItemCount() }, (_, i) => world.getItemAt(i));
  const now = viewport.getBounds(true), soon = viewport.getBounds(false);
  const sides = ["x", "y", "width", "height"];
  const still = sides.every((each) => Math.abs(now[each] - soon[each]) < 1e-9);
  return still && items.every((each) => each.getFullyLoaded()) && !viewer.world.needsDraw();
}
"""
_FRAMES = """
() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))
"""
_SEEN = """
(id) => {
  const viewer = OpenSeadragon.getViewer(id);
  const item = viewer.world.getItemAt(0);
  const at = (x) => item.imageToViewerElementCoordinates(new OpenSeadragon.Point(x, x));
  const corner = at(0), one = at(1);
  return {
    picture: viewer.drawer.canvas.toDataURL("image/png"),
    left: corner.x,
    top: corner.y,
    scale: one.x - corner.x,
  };
}
"""
_MOVE = """
([id, x, y]) => {
  const { viewport } = OpenSeadragon.getViewer(id);
  viewport.panBy(viewport.deltaPointsFromPixels(new OpenSeadragon.Point(x, y)), true);
}
"""


@dataclass(frozen=True)
class Seen:
    """The canvas of a stage.

    Attributes:
        pixels: uint8 [H, W, 4].
        left: Column of the canvas at which the image's first column is, maybe negative.
        top: The same of rows.
        scale: Pixels of the canvas a pixel of the image.
    """

    pixels: npt.NDArray[np.uint8]
    left: float
    top: float
    scale: float

    def part(self, height: int, width: int) -> tuple[Pixels, slice, slice]:
        """The part of an image that is in sight at 1:1.

        Args:
            height: Rows of the image.
            width: Its columns.

        Returns:
            uint8 [h, w, 3] of the canvas, and rows and columns of the image that lie there.
        """
        assert abs(self.scale - 1) < 1e-6, f"not at 1:1 but {self.scale}"
        left, top = round(self.left), round(self.top)
        assert abs(left - self.left) < 0.02, f"between two pixels: {self.left}"
        assert abs(top - self.top) < 0.02, f"between two pixels: {self.top}"
        rows = slice(max(0, -top), min(height, self.pixels.shape[0] - top))
        columns = slice(max(0, -left), min(width, self.pixels.shape[1] - left))
        shown = self.pixels[
            rows.start + top : rows.stop + top, columns.start + left : columns.stop + left
        ]
        assert (shown[..., 3] == 255).all(), "there are holes in the picture"
        return shown[..., :3], rows, columns


def wait_for_overlay(page: Page) -> None:
    """Waits until the page says that the whole overlay is there."""
    page.wait_for_function("() => document.documentElement.dataset.overlay === 'done'")


def settle(page: Page, stage: str = "stage") -> None:
    """Waits until a stage stands still and has drawn all."""
    page.evaluate(_FRAMES)  # before that it does not know yet what a move brings into sight
    page.wait_for_function(_SETTLED, arg=stage)
    page.evaluate(_FRAMES)


def see(page: Page, stage: str = "stage") -> Seen:
    """What a stage shows once it stands still."""
    settle(page, stage)
    found = page.evaluate(_SEEN, stage)
    data = base64.b64decode(found["picture"].split(",", 1)[1])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    return Seen(pixels, found["left"], found["top"], found["scale"])


def see_when(page: Page, wanted: Callable[[Seen], bool]) -> Seen:
    """What the first stage shows once it is as wanted; fails where that takes too long."""
    deadline = time.monotonic() + _WANTED_S
    while not wanted(seen := see(page)):
        if time.monotonic() > deadline:
            pytest.fail(f"not as wanted: scale {seen.scale}, left {seen.left}, top {seen.top}")
    return seen


def move(page: Page, right: int, down: int, stage: str = "stage") -> None:
    """Moves the view over the image, by so many pixels of the screen, at once."""
    page.evaluate(_MOVE, [stage, right, down])


def show_exactly(page: Page) -> None:
    """At 1:1, the mask filled and opaque."""
    page.locator("#fill").check()
    set_opacity(page, 100)
    page.locator("#actual-size").click()


def set_opacity(page: Page, percent: int) -> None:
    """As who moves the slider."""
    page.locator("#opacity").fill(str(percent))


def class_map(mask: bytes) -> npt.NDArray[np.uint8]:
    """Classes [H, W] of a mask file."""
    with Image.open(io.BytesIO(mask)) as opened:
        return np.asarray(opened)


def painted(mask: npt.NDArray[np.uint8], picture: Pixels) -> Pixels:
    """The colours of classes, and where there is none, the picture."""
    colors = np.array([color(index) for index in range(256)], np.uint8)
    return np.where(mask[..., None] > 0, colors[mask], picture).astype(np.uint8)


def off(shown: Pixels, expected: Pixels) -> npt.NDArray[np.int16]:
    """By how much pixels differ in the worst of their channels: [H, W]."""
    apart = np.abs(shown.astype(np.int16) - expected.astype(np.int16))
    return np.asarray(apart.max(axis=2))
