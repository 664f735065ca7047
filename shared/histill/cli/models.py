"""``histill models``: push, find, promote and remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from histill.cli.model_check import check
from histill.cli.model_folders import DESCRIPTION, described
from histill.cli.output import JsonFlag, print_json, print_table, say, size
from histill.client import Client
from histill.core.headers import unsent_manifest
from histill.core.json_form import as_dict
from histill.core.manifests import TORCHSCRIPT, WEIGHTS

if TYPE_CHECKING:
    from histill.api.registry.v1 import model_pb2

app = typer.Typer(no_args_is_help=True, help="Teachers and students.")
Reference = Annotated[str, typer.Argument(help="name, name@3 or name@alias.")]


@app.command()
def push(
    folder: Annotated[
        Path,
        typer.Argument(
            help=f"Holds {WEIGHTS} or {TORCHSCRIPT} with {DESCRIPTION}, or a MONAI bundle.",
            exists=True,
            file_okay=False,
        ),
    ],
    name: Annotated[str, typer.Option(help="Name to register it under.")],
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Push it without trying it here first.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Registers a folder as a new version, once the model has been tried on noise."""
    with described(folder, name) as model:
        unsent_manifest(model.header, [path.name for path in model.files])
        if not unchecked:
            check(model, quiet=json)
        with Client.connect() as client:
            pushed = client.models.push(model.header, model.files)
    if json:
        print_json(as_dict(pushed))
    else:
        say(f"registered {pushed.reference}, {size(pushed.size_bytes)}")


@app.command("ls")
def list_models(
    name: Annotated[str, typer.Argument(help="Only versions of this name.")] = "",
    json: JsonFlag = False,
) -> None:
    """Lists models, by name and newest first."""
    with Client.connect() as client:
        models = list(client.models.list(name=name))
    if json:
        print_json([as_dict(model) for model in models])
        return
    print_table(
        "models",
        ("model", "aliases", "task", "network", "parameters", "size", "Dice", "made by"),
        [_row(model) for model in models],
    )


def _row(model: model_pb2.Model) -> tuple[str, ...]:
    return (
        model.reference,
        ", ".join(model.aliases),
        model.task,
        model.architecture,
        # Those of a TorchScript program are not counted.
        f"{model.parameters:,}" if model.parameters else "",
        size(model.size_bytes),
        f"{model.metrics['dice']:.3f}" if "dice" in model.metrics else "",
        model.job,
    )


@app.command()
def get(
    reference: Reference,
    out: Annotated[Path | None, typer.Option(help="Also download its files here.")] = None,
) -> None:
    """Prints one model as JSON."""
    with Client.connect() as client:
        if out is None:
            model = client.models.get(reference)
        else:
            model, _ = client.models.download(reference, out)
    print_json(as_dict(model))


@app.command()
def alias(
    reference: Reference,
    alias: Annotated[str, typer.Argument(help="For example production.")],
) -> None:
    """Points an alias at a version; the inference service follows."""
    with Client.connect() as client:
        model = client.models.alias(reference, alias)
    say(f"{model.reference} is now {alias}")


@app.command("rm")
def remove(
    reference: Annotated[str, typer.Argument(help="name@3, or name@alias to drop an alias.")],
) -> None:
    """Removes one version, or an alias."""
    name, _, at = reference.partition("@")
    with Client.connect() as client:
        if at and not at.isdigit():
            client.models.unalias(name, at)
        else:
            client.models.delete(reference)
