"""What commands print: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console()
errors = Console(stderr=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def say(words: str) -> None:
    """Prints words as they are: names and errors may hold what rich takes for markup."""
    console.print(words, markup=False, highlight=False, soft_wrap=True)


def complain(words: str) -> None:
    """Prints what went wrong to standard error, as it is."""
    errors.print(Text("error ", style="red") + Text(words), soft_wrap=True, highlight=False)


def say_help(words: str) -> None:
    """Prints to standard error what helps against what went wrong, under it."""
    errors.print(f" help {words}", markup=False, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Prints JSON to standard output, whatever the terminal's width."""
    typer.echo(json.dumps(value, indent=2))


def print_json_line(value: object) -> None:
    """Prints JSON on one line, for streams."""
    typer.echo(json.dumps(value))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; an empty one says so."""
    if not rows:
        say(f"no {title}")
        return
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        # The first column is what one copies into the next command.
        table.add_column(column, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def size(count: int) -> str:
    """Bytes for people: ``1.5 MB``."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":  # noqa: PLR2004 - SI steps
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
