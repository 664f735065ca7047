"""``histill doctor``: what is wrong, and what to do."""

from __future__ import annotations

import typer

from histill.cli.checks import Check, every_check
from histill.cli.output import JsonFlag, print_json, say
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
    say(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
    if not check.ok:
        say(f"     → {check.remedy}")
