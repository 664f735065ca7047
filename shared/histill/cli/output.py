"""What commands print: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from google.protobuf.message import Message

console = Console()
errors = Console(stderr=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def as_dict(message: Message) -> dict[str, object]:
    """A message as JSON values, with the names of the API."""
    found: dict[str, object] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def print_json(value: object) -> None:
    """Prints JSON to standard output, whatever the terminal's width."""
    typer.echo(json.dumps(value, indent=2))


def print_json_line(value: object) -> None:
    """Prints JSON on one line, for streams."""
    typer.echo(json.dumps(value))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; an empty one says so."""
    if not rows:
        console.print(f"no {title}")
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def size(count: int) -> str:
    """Bytes for people: ``1.5 MB``."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":  # noqa: PLR2004 - SI steps
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
