"""``histill demo``: the main job from end to end on this machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from histill.cli.output import print_table, say, size
from histill.cli.up import stop_on_signals
from histill.cli.watching import follow
from histill.client import Client

if TYPE_CHECKING:
    from histill.demo.measure import Row


def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of images/ and labels/; HISTILL_DATA by default.", exists=True),
    ] = None,
    home: Annotated[Path, typer.Option(help="Folder for all that it leaves.")] = Path(
        "histill-demo"
    ),
) -> None:
    """Trains three teachers, distils a student, serves it and measures it."""
    home, started = home.resolve(), time.monotonic()
    if data is None and (named := os.environ.get("HISTILL_DATA")):
        data = Path(named)
    stop_on_signals()
    try:
        from histill.demo.run import check_source, choose_source, run
        from histill.embedded.layout import Ports
        from histill.embedded.stack import running

        source = choose_source(data and data.resolve(), home)
        say(f"data: {source.folder}: {source.description}")
        check_source(source)
        with (
            running(home, ports=Ports.free(), say=say) as stack,
            Client(stack.client) as client,
        ):
            say(f"the page, signed in as admin: {stack.signed_in()}")
            out = home / "overlays"
            outcome = run(
                client,
                source,
                out,
                say=say,
                follow=lambda name, label: follow(client, name, label=label),
            )
    except KeyboardInterrupt:
        say(f"\nstopped; what was done so far is in {home}")
        raise
    _print(outcome.rows)
    say(
        f"teachers learned from the labels of all {outcome.images} images; both students from "
        f"those of {outcome.labeled_images}, with the same network, steps and seed",
    )
    say(f"overlays: {out}\neverything else: {home}")
    say(f"to see it on the page: histill up --home {home}")
    say(f"done in {time.monotonic() - started:.0f} s")


def _print(rows: list[Row]) -> None:
    print_table(
        "held-out images, through the inference service",
        ("model", "parameters", "size", "Dice", "IoU", "ms/image"),
        [
            (
                row.model.reference.partition("@")[0],
                f"{row.model.parameters:,}",
                size(row.onnx_bytes),
                f"{row.dice:.4f}",
                f"{row.iou:.4f}",
                f"{row.milliseconds:.1f}",
            )
            for row in rows
        ],
    )
