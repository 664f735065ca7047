"""From dropping an image on the page to the first and the whole overlay, in a real browser.

The whole system runs on this machine, as ``histill up`` starts it, with a student that it
trains first. Images of 1024 x 1024 pixels are dropped as PNG and as JPEG, by turns with plain
gRPC calls for the same bytes, so that what else the machine does hits all alike. Times come
from the page's own marks; those of the service from the summary that it sends::

    make bench-page

Writes ``build/benchmarks/first_overlay.json`` and prints a table.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import re
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

import page_images
from chromium import chromium
from histill.api.distillation.v1 import job_pb2
from histill.demo.tissue import CLASSES, write_tissue
from page_actions import choose_model, drop
from page_stage import wait_for_overlay
from page_system import page_system

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.sync_api import Page

    from histill.client import Client

OUT = Path(__file__).parents[2] / "build" / "benchmarks"
SAMPLE = Path(__file__).parents[2] / "services/histill/web/static/sample.jpg"
SIDE = 1024
_MARKS = """
() => Object.fromEntries(["taken", "first-overlay", "overlay"].map((each) =>
  [each, performance.getEntriesByName(`histill:${each}`).at(-1)?.startTime]))
"""
_FORGET = """
() => {
  for (const each of ["taken", "first-overlay", "overlay"])
    performance.clearMarks(`histill:${each}`);
}
"""
console = Console(width=110)


@dataclass
class Runs:
    """What was measured with one kind of file, in milliseconds.

    Attributes:
        first: From the drop to the first overlay.
        whole: From the drop to all of it.
        service: That the service says it took, waiting included.
        call: A plain call for the same bytes, with the SDK.
    """

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    service: list[float] = field(default_factory=list)
    call: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Medians, 90th percentiles and ratios."""
        first, whole = statistics.median(self.first), statistics.median(self.whole)
        return {
            "first_p50_ms": first,
            "first_p90_ms": quantile(self.first, 0.9),
            "whole_p50_ms": whole,
            "whole_p90_ms": quantile(self.whole, 0.9),
            "service_share": statistics.median(self.service) / whole,
            "call_p50_ms": statistics.median(self.call),
            "whole_over_call": whole / statistics.median(self.call),
            "runs": len(self.first),
        }


def quantile(values: Sequence[float], share: float) -> float:
    """By linear interpolation."""
    return float(np.quantile(values, share))


def tile() -> page_images.Pixels:
    """The sample, mirrored to 1024 x 1024 pixels."""
    with Image.open(SAMPLE) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    wide = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    return np.concatenate([wide, wide[::-1]], axis=0)[:SIDE, :SIDE]


def trained(client: Client, folder: Path, *, steps: int) -> str:
    """Trains a student of the demo's size on its data; the reference."""
    pushed = client.datasets.push(write_tissue(folder), name="tissue", classes=CLASSES)
    job = client.jobs.submit(
        {
            "supervised": {
                "dataset": pushed.reference,
                "output_model": "student",
                "network": {"architecture": "unet", "width": 8, "depth": 4},
                "training": {"steps": steps, "batch_size": 8, "crop_size": 64},
            }
        }
    )
    ended = client.jobs.wait(job.name)
    if ended.state != job_pb2.JOB_STATE_SUCCEEDED:
        raise SystemExit(f"the student was not trained: {ended.error.message}")
    return "student@1"


def dropped(page: Page, name: str, data: bytes, into: Runs) -> None:
    """Drops an image, waits for its overlay, and notes when what was there."""
    page.evaluate(_FORGET)
    page.evaluate("document.documentElement.dataset.overlay = 'none'")
    drop(page, name, data, media_type=f"image/{name.rpartition('.')[2]}")
    wait_for_overlay(page)
    # The mark is set in the frame after the one that paints.
    page.wait_for_function("() => performance.getEntriesByName('histill:overlay').length > 0")
    marks = page.evaluate(_MARKS)
    into.first.append(marks["first-overlay"] - marks["taken"])
    into.whole.append(marks["overlay"] - marks["taken"])
    into.service.append(served_ms(page.locator("#stages").inner_text()))


def served_ms(told: str) -> float:
    """All that the service did, of "decode 12 · wait 0 · compute 40 · write 9 ms; …"."""
    return sum(float(each) for each in re.findall(r"[\d.]+", told.partition(" ms;")[0]))


def called(client: Client, data: bytes, model: str, into: Runs) -> None:
    """The same image through the SDK."""
    began = time.perf_counter()
    client.segment(data, model=model)
    into.call.append(1000 * (time.perf_counter() - began))


def measure(page: Page, client: Client, model: str, *, times: int) -> tuple[dict[str, Runs], float]:
    """All kinds of files by turns, after one of each that does not count.

    Returns:
        What was measured, and the milliseconds to the first overlay of the very first image, for
        which the service loads the model.
    """
    pixels = tile()
    files = {"tile.png": page_images.png(pixels), "tile.jpeg": jpeg(pixels)}
    cold = Runs()
    for name, data in files.items():
        dropped(page, name, data, cold)
        called(client, data, model, cold)
    runs = {name: Runs() for name in files}
    for _ in range(times):
        for name, data in files.items():
            dropped(page, name, data, runs[name])
            called(client, data, model, runs[name])
    return runs, cold.first[0]


def jpeg(pixels: page_images.Pixels) -> bytes:
    """As microscopes' cameras write it."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


def table(found: dict[str, dict[str, float]]) -> Table:
    """A row a kind of file."""
    made = Table(title=f"drop to overlay, {SIDE} x {SIDE}, ms")
    names = "first p50", "first p90", "whole p50", "whole p90", "service's share", "plain call p50"
    for name in ("", *names, "whole / call"):
        made.add_column(name, justify="right" if name else "left")
    for name, row in found.items():
        first = [f"{row[key]:.0f}" for key in list(row)[:4]]
        share, call = f"{100 * row['service_share']:.0f} %", f"{row['call_p50_ms']:.0f}"
        made.add_row(name, *first, share, call, f"{row['whole_over_call']:.2f}")
    return made


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Starts everything, measures, and stops it."""
    with tempfile.TemporaryDirectory(prefix="histill-bench-page-") as scratch:
        home = given.home or Path(scratch) / "home"
        with page_system(home) as system, chromium() as browser:
            model = given.model or trained(
                system.client, Path(scratch) / "tissue", steps=given.steps
            )
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            context.request.post(f"{system.url}/api/session", data={"token": system.key})
            page = context.new_page()
            page.goto(system.url)
            choose_model(page, model)
            runs, cold = measure(page, system.client, model, times=given.times)
            version = browser.version
    found = {name: each.summary() for name, each in runs.items()}
    return found | {
        "circumstances": {
            "model": model,
            "first_overlay_while_the_model_loads_ms": round(cold),
            "cores": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "chromium": version,
        }
    }


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=15, help="each kind of file is dropped (15)")
    parser.add_argument("--steps", type=int, default=60, help="of the student's training (60)")
    parser.add_argument("--home", type=Path, help="folder of a system that has a model already")
    parser.add_argument("--model", default="", help="that model's reference")
    parser.add_argument("--out", type=Path, default=OUT, help="folder (build/benchmarks)")
    return parser.parse_args(words)


def main() -> None:
    """Measures and reports."""
    given = arguments()
    found = run(given)
    console.print(table({name: row for name, row in found.items() if name != "circumstances"}))
    console.print(found["circumstances"])
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "first_overlay.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
