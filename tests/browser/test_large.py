"""A large image: shown in tiles, exact at every place, and not held whole in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import page_images
from page_actions import choose, choose_model
from page_models import STUDENT
from page_stage import class_map, move, off, painted, see, show_exactly

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from page_images import Pixels
    from page_system import System

# More than the page holds whole.
HEIGHT, WIDTH = 4200, 4400
MODEL = f"{STUDENT}@1"
# Four bytes a pixel of the whole image and of its mask would be 150 MB.
MOST_BYTES = 75e6


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """What the slide shows: patches of another size than tiles and regions."""
    return page_images.tissue(HEIGHT, WIDTH, cell=50)


def test_a_large_image_is_exact_wherever_one_looks(
    page: Page, system: System, pixels: Pixels
) -> None:
    """At 1:1 the middle and a corner show the SDK's mask; progress is told; memory is bounded."""
    data = page_images.tiff(pixels, tile=256)
    page.evaluate(
        """() => {
          window.told = new Set();
          new MutationObserver(() => window.told.add(document.documentElement.dataset.overlay))
            .observe(document.documentElement, { attributes: true });
        }"""
    )
    choose_model(page, MODEL)
    choose(page, "slide.tiff", data, media_type="image/tiff")
    page.wait_for_function(
        "() => document.documentElement.dataset.overlay === 'done'", timeout=60_000
    )
    assert "partial" in page.evaluate("[...window.told]")
    mask = class_map(system.client.segment(data, model=MODEL).mask)
    show_exactly(page)
    for right, down in ((0, 0), (1900, 1800)):
        move(page, right, down)
        shown, rows, columns = see(page).part(HEIGHT, WIDTH)
        assert shown.shape[0] > 200, rows
        assert shown.shape[1] > 200, columns
        classes = mask[rows, columns]
        apart = off(shown, painted(classes, pixels[rows, columns]))
        assert apart[classes > 0].max() == 0
        assert apart[classes == 0].mean() < 4
    page.locator("#fit").click()
    assert see(page).scale < 0.3
    page.context.new_cdp_session(page).send("HeapProfiler.collectGarbage")
    assert page.evaluate("performance.memory.usedJSHeapSize") < MOST_BYTES
