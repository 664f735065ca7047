"""``histill models``: push, find, promote and remove."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from google.protobuf.json_format import ParseDict, ParseError

from histill.api.registry.v1 import registry_service_pb2
from histill.cli.files import load_yaml
from histill.cli.output import JsonFlag, print_json, print_table, say, size
from histill.client import Client
from histill.core.errors import InvalidArgumentError
from histill.core.json_form import as_dict
from histill.core.manifests import CARD, ONNX, WEIGHTS

if TYPE_CHECKING:
    from histill.api.registry.v1 import model_pb2

app = typer.Typer(no_args_is_help=True, help="Teachers and students.")
Reference = Annotated[str, typer.Argument(help="name, name@3 or name@alias.")]
DESCRIPTION = "model.yaml"


@app.command()
def push(
    folder: Annotated[
        Path,
        typer.Argument(
            help=f"Holds {WEIGHTS}, {DESCRIPTION} and maybe {ONNX} and {CARD}.",
            exists=True,
            file_okay=False,
        ),
    ],
    name: Annotated[str, typer.Option(help="Name to register it under.")],
    json: JsonFlag = False,
) -> None:
    """Registers a folder with weights and their description as a new version."""
    files = [folder / file for file in (WEIGHTS, ONNX, CARD) if (folder / file).exists()]
    with Client.connect() as client:
        model = client.models.push(_header(folder, name), files)
    if json:
        print_json(as_dict(model))
    else:
        say(f"registered {model.reference}, {size(model.size_bytes)}")


def _header(folder: Path, name: str) -> registry_service_pb2.ModelHeader:
    path = folder / DESCRIPTION
    if not path.exists():
        raise InvalidArgumentError.of(
            str(path), "is missing; it gives role, network, channels, classes, mean and std"
        )
    described = load_yaml(path)
    described["network_json"] = jsonlib.dumps(described.pop("network", {}))
    if isinstance(role := described.get("role"), str):
        described["role"] = f"MODEL_ROLE_{role.upper()}"
    header = registry_service_pb2.ModelHeader()
    try:
        ParseDict(described | {"model_name": name}, header)
    except ParseError as exc:
        raise InvalidArgumentError.of(str(path), str(exc)) from exc
    return header


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
        ("model", "aliases", "network", "parameters", "size", "Dice", "made by"),
        [_row(model) for model in models],
    )


def _row(model: model_pb2.Model) -> tuple[str, ...]:
    return (
        model.reference,
        ", ".join(model.aliases),
        model.architecture,
        f"{model.parameters:,}",
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
