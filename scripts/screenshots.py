"""Makes the pictures of the page for the README, from a real run.

A demo's student segments the sample, and a distillation like the demo's is caught in the middle.

Usage: PYTHONPATH=tests python scripts/screenshots.py HOME, the folder of a demo that has run
(histill demo --home HOME). Writes docs/page-segment.png and docs/page-job.png.
"""

# ruff: noqa: INP001 - a script is no package
from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from chromium import chromium
from histill.demo.plan import STUDENT, Plan
from histill.demo.tissue import TRAIN_TILE
from page_actions import choose_model
from page_stage import settle, wait_for_overlay
from page_system import page_system

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from page_system import System

DOCS = Path(__file__).parents[1] / "docs"
SEGMENT_SIZE = {"width": 1280, "height": 860}
# High enough for the second row of charts.
JOB_SIZE = {"width": 1280, "height": 1290}
TEACHERS = ["teacher-unet@1", "teacher-basic-unet@1", "teacher-segresnet@1"]
# Of the steps: by then curves have a shape.
SHARE = 0.7
STEPS = 600


def save(page: Page, name: str) -> None:
    """What is in sight, in so few colours that the file is small."""
    with Image.open(io.BytesIO(page.screenshot(animations="disabled"))) as taken:
        few = taken.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    path = DOCS / f"{name}.png"
    few.save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1000} kB")  # noqa: T201 - a script's output


def segmenting(page: Page, system: System) -> None:
    """The sample with its overlay."""
    page.goto(system.url)
    choose_model(page, f"{STUDENT}@1")
    for _ in range(2):  # the first loads the model, and its milliseconds are those of that
        page.locator("#sample").click()
        page.wait_for_function("() => document.documentElement.dataset.overlay !== 'done'")
        wait_for_overlay(page)
    page.locator("#opacity").fill("45")
    settle(page)
    page.locator("#stage").scroll_into_view_if_needed()
    save(page, "page-segment")


def training(page: Page, system: System) -> None:
    """A job's page while its curves grow; the job is cancelled afterwards."""
    spec = Plan("demo@1", TRAIN_TILE, 3).student(TEACHERS)
    inner = spec["multi_teacher"]
    inner["training"]["steps"] = STEPS
    inner["output_model"] = "picture"
    job = system.client.jobs.submit(spec)
    page.goto(f"{system.url}/{job.name}")
    page.wait_for_function(
        "share => { const bar = document.getElementById('job-progress');"
        " return bar.position > share; }",
        arg=SHARE,
        timeout=300_000,
    )
    page.evaluate("scrollTo(0, 0)")
    save(page, "page-job")
    system.client.jobs.cancel(job.name)
    system.client.jobs.wait(job.name)


def main() -> None:
    """Makes both."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and one argument
        sys.exit(__doc__)
    with page_system(Path(sys.argv[1]).resolve()) as system, chromium() as browser:
        context = browser.new_context(viewport=SEGMENT_SIZE, color_scheme="light")
        context.request.post(f"{system.url}/api/session", data={"token": system.key})
        page = context.new_page()
        segmenting(page, system)
        page.set_viewport_size(JOB_SIZE)
        training(page, system)


if __name__ == "__main__":
    main()
