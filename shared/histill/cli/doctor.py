"""``histill doctor``: what is wrong, and what to do."""

from __future__ import annotations

import typer

from histill.cli.checks import Check, every_check
from histill.cli.output import JsonFlag, console, print_json
from histill.cli.up import Home
from histill.client.settings import home as default_home


def doctor(home: Home = None, json: JsonFlag = False) -> None:
    """Checks this machine and the system it talks to; says what to do about each fault."""
    checks = list(every_check((home or default_home()).resolve()))
    if json:
        print_json([check.__dict__ for check in checks])
    else:
        for check in checks:
            _print(check)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _print(check: Check) -> None:
    mark = "[green]ok[/]  " if check.ok else "[red]fail[/]"
    console.print(f"{mark} {check.name}: {check.detail}", highlight=False, soft_wrap=True)
    if not check.ok:
        console.print(f"     → {check.remedy}", highlight=False, soft_wrap=True)
