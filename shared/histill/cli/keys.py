"""``histill keys``: who may call, and who calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from histill.cli.output import JsonFlag, print_json, print_table, say, say_help
from histill.client import Client
from histill.client.keys import ROLES
from histill.core.json_form import as_dict

if TYPE_CHECKING:
    from histill.api.access.v1 import access_service_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="API keys, for admins; and who calls.")
_NAMES = {number: role for role, number in ROLES.items()}


class RoleName(StrEnum):
    """What a holder may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@app.command()
def create(
    description: Annotated[str, typer.Argument(help="Who will hold it and what for.")],
    role: Annotated[
        RoleName,
        typer.Option(help="viewer segments, operator also submits, admin also deletes."),
    ] = RoleName.VIEWER,
    project: Annotated[str, typer.Option(help="Whose data it sees; by default yours.")] = "",
    days: Annotated[
        int, typer.Option(min=0, max=3653, help="Until it expires; 0: it does not.")
    ] = 365,
    json: JsonFlag = False,
) -> None:
    """Makes a key and prints it, this once; it works within five seconds."""
    with Client.connect() as client:
        key, secret = client.keys.create(
            role=role.value,
            description=description,
            project=project,
            ttl=timedelta(days=days) if days else None,
        )
    if json:
        print_json({**as_dict(key), "secret": secret})
        return
    # Alone on standard output, so that it can go into a file or a secret store.
    say(secret)
    say_help(f"this is key {key.key_id}; keep it safe, for it cannot be shown again")


@app.command("ls")
def list_keys(
    project: Annotated[str, typer.Option(help="Only keys of this project.")] = "",
    json: JsonFlag = False,
) -> None:
    """Lists keys, newest first; when one was used last is not recorded."""
    with Client.connect() as client:
        keys = list(client.keys.list(project=project))
    if json:
        print_json([as_dict(key) for key in keys])
        return
    print_table(
        "keys",
        ("key", "role", "project", "state", "made", "by", "description"),
        [_row(key) for key in keys],
    )


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, as histill keys ls shows it.")],
    json: JsonFlag = False,
) -> None:
    """Ends a key for good; it stops within five seconds."""
    with Client.connect() as client:
        revoked = client.keys.revoke(key)
    if json:
        print_json(as_dict(revoked))
    else:
        say(f"{revoked.key_id} is revoked ({revoked.description})")


@app.command()
def whoami(json: JsonFlag = False) -> None:
    """Shows as whom the services know you: id in their logs, role and project."""
    with Client.connect() as client:
        caller = client.keys.caller()
    if json:
        print_json(as_dict(caller))
        return
    role = _NAMES.get(caller.role, "")
    print_table("you", ("id", "role", "project"), [(caller.caller_id, role, caller.project)])


def _row(key: pb.Key) -> tuple[str, ...]:
    return (
        key.key_id,
        _NAMES.get(key.role, ""),
        key.project,
        _state(key),
        f"{key.create_time.ToDatetime(UTC):%Y-%m-%d}",
        key.creator,
        key.description,
    )


def _state(key: pb.Key) -> str:
    if key.HasField("revoke_time"):
        return f"revoked {key.revoke_time.ToDatetime(UTC):%Y-%m-%d}"
    if not key.HasField("expire_time"):
        return "in force"
    end = key.expire_time.ToDatetime(UTC)
    return f"{'expired' if end <= datetime.now(UTC) else 'until'} {end:%Y-%m-%d}"
