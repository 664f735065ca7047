"""``histill up``: the whole system on this machine."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from histill.cli.output import print_table, say
from histill.client.settings import home as default_home

Home = Annotated[
    Path | None, typer.Option(help="Folder for data, logs and keys; HISTILL_HOME by default.")
]


def stop_on_signals() -> None:
    """Makes SIGTERM stop like Ctrl-C, and both work where a shell has ignored them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def up(
    home: Home = None,
    workers: Annotated[int, typer.Option(min=1, help="Jobs at once.")] = 1,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Take free ports, not the usual ones.")
    ] = False,
) -> None:
    """Runs the embedded system until Ctrl-C and prints every endpoint."""
    folder = (home or default_home()).resolve()
    stop_on_signals()
    try:
        from histill.embedded.layout import Ports
        from histill.embedded.stack import running

        ports = Ports.free() if free_ports else Ports()
        with running(folder, ports=ports, workers=workers, say=say) as stack:
            print_table("endpoints", ("what", "where"), list(stack.endpoints().items()))
            say(f"the page, signed in as admin: {stack.signed_in()}")
            say(f"data, logs and keys: {folder}")
            if folder != default_home().resolve():
                say(f"for other commands: export HISTILL_HOME={folder}")
            say("Ctrl-C stops it; the data stays.")
            while True:
                stack.check()
                time.sleep(0.5)
    except KeyboardInterrupt:
        say(f"stopped; the data is in {folder}")
