"""``histill audit``: who did what, and whether the log of it is whole."""

from __future__ import annotations

import json as json_format
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from histill.cli.output import JsonFlag, print_json_line, print_table, say
from histill.cli.stores import FolderObjects, load_store_settings, open_store
from histill.core import audit_check
from histill.core.audit import FOLDER, stamp
from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.core.audit_check import Reading

app = typer.Typer(
    no_args_is_help=True,
    help="The log of who did what, in S3 (HISTILL_S3__*, HISTILL_AUDIT__KEY).",
)
Since = Annotated[datetime | None, typer.Option(help="From this time on (UTC).")]
Until = Annotated[datetime | None, typer.Option(help="Up to this time (UTC).")]
Folder = Annotated[
    Path | None,
    typer.Option(
        help=f"Read downloaded objects: a folder that holds {FOLDER}.",
        exists=True,
        file_okay=False,
    ),
]
_COLUMNS = ("at", "caller", "project", "call", "what", "code", "ms", "in", "out")


@app.command()
def verify(
    since: Since = None, until: Until = None, folder: Folder = None, json: JsonFlag = False
) -> None:
    """Checks every chain of records; exits with 1 when one was tampered with."""
    store, key = _opened(folder)
    begin, end = _utc(since), _utc(until)
    names = audit_check.chains(store, since=begin, until=end, key=key)
    checked = faults = 0
    for report in audit_check.check(store, names, key=key, since=begin):
        checked += 1
        faults += bool(report.fault)
        if json:
            found = {"chain": report.chain, "records": report.lines, "fault": report.fault}
            print_json_line(found)
        else:
            say(f"{'FAULT' if report.fault else 'ok   '} {report.chain}: {report.lines} records")
            if report.fault:
                say(f"      {report.fault}")
    if not json:
        sealed = "sealed with the key" if key else "hashed without a key (HISTILL_AUDIT__KEY)"
        say(f"{checked} chains, {sealed}; {faults} with faults")
    if faults:
        raise typer.Exit(1)


@app.command("ls")
def list_records(
    since: Since = None,
    until: Until = None,
    caller: Annotated[str, typer.Option(help="Only of this caller.")] = "",
    project: Annotated[str, typer.Option(help="Only of this project.")] = "",
    folder: Folder = None,
    json: JsonFlag = False,
) -> None:
    """Lists records by time; whether they are genuine says verify."""
    store, key = _opened(folder)
    begin, end = _utc(since), _utc(until)
    found = [
        record
        for name in audit_check.chains(store, since=begin, until=end, key=key)
        for record in _ended(store, name)
        if caller in {"", record.get("caller")}
        and project in {"", record.get("project")}
        and (begin is None or stamp(begin) <= record["at"])
        and (end is None or record["at"] <= stamp(end))
    ]
    found.sort(key=lambda record: record["at"])
    if json:
        for record in found:
            print_json_line(record)
    else:
        print_table("records", _COLUMNS, [_row(record) for record in found])


def _opened(folder: Path | None) -> tuple[Reading, bytes | None]:
    settings = load_store_settings()
    if folder is None:
        return open_store(settings), settings.audit.key_bytes
    if not (folder / FOLDER).is_dir():
        raise InvalidArgumentError.of("--folder", f"{folder} holds no folder {FOLDER}")
    return FolderObjects(folder), settings.audit.key_bytes


def _utc(at: datetime | None) -> datetime | None:
    return at and (at if at.tzinfo else at.replace(tzinfo=UTC))


def _ended(store: Reading, chain: str) -> Iterator[dict[str, Any]]:
    """Records of calls that ended, then of those that were announced and never ended."""
    begun: dict[int, dict[str, Any]] = {}
    for _, line in audit_check.records(store, chain):
        try:
            record = json_format.loads(line)
        except (ValueError, RecursionError):
            continue  # verify tells of it
        if not _is_call(record):
            continue
        if record.get("what") == "begun":
            begun[record["seq"]] = record
            continue
        begun.pop(record.get("begun", 0), None)
        yield record | {"chain": chain}
    for record in begun.values():
        yield record | {"chain": chain, "code": "UNFINISHED"}


def _is_call(record: Any) -> bool:
    """Whether a line is a call's record, so far as it is read here: anybody may have put it."""
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(name), str) for name in ("at", "method"))
        and all(isinstance(record.get(name, 0), int) for name in ("seq", "begun"))
    )


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    told = {
        **record,
        "call": record["method"].rpartition("/")[2],
        "what": record.get("resource") or record.get("model"),
        "code": " ".join(str(record[name]) for name in ("code", "why") if record.get(name)),
        "in": record.get("bytes_in"),
        "out": record.get("bytes_out"),
    }
    return tuple("" if (value := told.get(name)) is None else str(value) for name in _COLUMNS)
