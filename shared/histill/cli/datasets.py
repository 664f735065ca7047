"""``histill datasets``: push, list and remove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from histill.api.registry.v1 import dataset_pb2
from histill.cli.output import JsonFlag, print_json, print_table, say, size
from histill.client import Client
from histill.client.packing import count_unlabeled
from histill.core.json_form import as_dict

app = typer.Typer(no_args_is_help=True, help="Images with labels.")


@app.command()
def push(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Holds images/ and labels/, or train/ and val/ with both in each. Training "
            "images may come without a label.",
            exists=True,
            file_okay=False,
        ),
    ],
    name: Annotated[str, typer.Option(help="Name to register it under.")],
    classes: Annotated[str, typer.Option(help="Class names, background first.")] = (
        "background,object"
    ),
    channels: Annotated[int, typer.Option(help="1 for grey, 3 for RGB.")] = 3,
    labels: Annotated[
        Literal["auto", "semantic", "instance"],
        typer.Option(help="Values are class indices, or number objects; auto finds out."),
    ] = "auto",
    description: Annotated[str, typer.Option(help="Source, licence, how labelled.")] = "",
    pixel_size_mm: Annotated[
        float, typer.Option(help="Side of a pixel in millimetres; 0 when not known.")
    ] = 0.0,
    json: JsonFlag = False,
) -> None:
    """Packs a folder and registers it as a new version."""
    with Client.connect() as client:
        dataset = client.datasets.push(
            folder,
            name=name,
            classes=[word.strip() for word in classes.split(",")],
            channels=channels,
            labels=labels,
            description=description,
            pixel_size_mm=pixel_size_mm,
        )
    if json:
        print_json(as_dict(dataset))
    else:
        count = count_unlabeled(folder)
        without = f", {count} of train without a label" if count else ""
        say(f"registered {dataset.reference}: {_splits(dataset)}, {_labels(dataset)}{without}")


@app.command("ls")
def list_datasets(json: JsonFlag = False) -> None:
    """Lists datasets, by name and newest first."""
    with Client.connect() as client:
        datasets = list(client.datasets.list())
    if json:
        print_json([as_dict(dataset) for dataset in datasets])
        return
    print_table(
        "datasets",
        ("dataset", "images", "classes", "labels", "size", "about"),
        [
            (
                dataset.reference,
                _splits(dataset),
                ", ".join(dataset.classes),
                _labels(dataset),
                size(dataset.size_bytes),
                dataset.description,
            )
            for dataset in datasets
        ],
    )


@app.command("rm")
def remove(reference: Annotated[str, typer.Argument(help="name@3.")]) -> None:
    """Removes one version."""
    with Client.connect() as client:
        client.datasets.delete(reference)


def _splits(dataset: dataset_pb2.Dataset) -> str:
    return ", ".join(f"{count} {split}" for split, count in sorted(dataset.splits.items()))


def _labels(dataset: dataset_pb2.Dataset) -> str:
    name = dataset_pb2.LabelKind.Name(dataset.label_kind)
    return f"{name.removeprefix('LABEL_KIND_').lower()} labels"
