"""``histill doctor``: what is wrong, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from histill.cli.checks import Check, every_check, system
from histill.cli.end_to_end import try_out
from histill.cli.output import JsonFlag, errors, print_json, say
from histill.cli.up import Home, stop_on_signals
from histill.client import Client
from histill.client.settings import home as default_home

if TYPE_CHECKING:
    from collections.abc import Callable


def doctor(
    home: Home = None,
    end_to_end: Annotated[
        bool,
        typer.Option(
            "--end-to-end",
            help="Also train on made-up images, segment one with the result, and remove it all.",
        ),
    ] = False,
    wait_s: Annotated[
        float, typer.Option(min=0, max=86_400, help="End to end: seconds for the training job.")
    ] = 600.0,
    pool: Annotated[str, typer.Option(help="End to end: whose workers train.")] = "",
    keep: Annotated[
        bool, typer.Option("--keep", help="End to end: leave what was made, to look at it.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Checks this machine and the system it talks to; says what to do about each fault."""
    folder = (home or default_home()).resolve()
    checks: list[Check] = []

    def report(check: Check) -> None:
        checks.append(check)
        if not json:
            _print(check)

    try:
        # End to end it is the system that counts, not where it is asked from.
        for check in system(folder) if end_to_end else every_check(folder):
            report(check)
        if end_to_end and all(check.ok for check in checks):
            _end_to_end(folder, wait_s=wait_s, pool=pool, keep=keep, report=report)
    finally:
        if json:
            print_json([check.__dict__ for check in checks])
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _end_to_end(
    folder: Path, *, wait_s: float, pool: str, keep: bool, report: Callable[[Check], None]
) -> None:
    # A pod that is being deleted cleans up as after Ctrl-C.
    stop_on_signals()
    with Client.connect(folder) as client:
        try_out(client, wait_s=wait_s, pool=pool, keep=keep, report=report, tell=_tell)


def _tell(words: str) -> None:
    """Beside the outcome, so that JSON stays JSON."""
    errors.print(f"     {words}", markup=False, highlight=False, soft_wrap=True)


def _print(check: Check) -> None:
    say(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
    if not check.ok:
        say(f"     → {check.remedy}")
