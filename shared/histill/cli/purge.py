"""``histill privacy purge``: removes every trace of a job or a dataset, and proves it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from histill.cli.output import JsonFlag, complain, print_json, say, size
from histill.client import Client
from histill.core.errors import InvalidArgumentError
from histill.core.json_form import as_dict

if TYPE_CHECKING:
    from histill.api.privacy.v1 import privacy_service_pb2 as pb


def purge(
    name: Annotated[str, typer.Argument(help="jobs/ID, or NAME@VERSION of a dataset.")],
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Leave the models that were made.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonFlag = False,
) -> None:
    """Removes a job, or a dataset with its jobs, reports and models, and searches for the rest."""
    with Client.connect() as client:
        if not (yes or dry_run):
            _confirm(client, name, keep_models=keep_models)
        answer = client.privacy.purge(name, keep_models=keep_models, dry_run=dry_run)
    if json:
        print_json(as_dict(answer))
    else:
        _tell(answer, dry_run=dry_run)
    if answer.left:
        raise typer.Exit(1)


def _confirm(client: Client, name: str, *, keep_models: bool) -> None:
    if not sys.stdin.isatty():
        raise InvalidArgumentError.of("--yes", "is needed where nobody can be asked")
    _tell_removed(client.privacy.purge(name, keep_models=keep_models, dry_run=True), "would remove")
    typer.confirm("Remove all of it? Nothing can bring it back", abort=True, err=True)


def _tell(answer: pb.PurgeResponse, *, dry_run: bool) -> None:
    _tell_removed(answer, "would remove" if dry_run else "removed")
    for reference in answer.descendants:
        say(
            f"stays: {reference} was distilled from a model of it; remove it with histill models rm"
        )
    if dry_run:
        return
    searched = answer.searched
    say(
        f"searched {searched.objects_listed} objects ({searched.objects_read} by content), "
        f"{searched.redis_keys} keys in Redis and {len(searched.workers)} workers' disks"
    )
    for trace in answer.stays:
        say(f"stays: {trace.place} {trace.why}")
    for trace in answer.left:
        complain(f"left: {trace.place} {trace.why}")
    if not answer.left:
        say("nothing is left")


def _tell_removed(answer: pb.PurgeResponse, verb: str) -> None:
    removed = answer.removed
    keys = f"{removed.redis_keys} keys in Redis"
    say(f"{verb} {removed.objects} objects, {size(removed.bytes)}, {keys}:")
    for kind, names in (
        ("dataset", removed.datasets),
        ("jobs", removed.jobs),
        ("models", removed.models),
    ):
        if names:
            say(f"  {kind} {', '.join(names)}")
