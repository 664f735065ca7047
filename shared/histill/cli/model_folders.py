"""Folders that ``histill models push`` takes, as a header and files."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import ParseDict, ParseError

from histill.api.registry.v1 import registry_service_pb2
from histill.cli.files import load_yaml
from histill.client.bundles import is_bundle, read_bundle
from histill.core.errors import InvalidArgumentError
from histill.core.manifests import CARD, ONNX, STATISTICS, TORCHSCRIPT, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator

DESCRIPTION = "model.yaml"
_FILES = (WEIGHTS, TORCHSCRIPT, ONNX, STATISTICS, CARD)


@dataclass(frozen=True)
class Described:
    """What a folder holds.

    Attributes:
        header: For the registry.
        files: In a folder that holds them alone, under the names they are registered by.
    """

    header: registry_service_pb2.ModelHeader
    files: list[Path]


@contextmanager
def described(folder: Path, name: str) -> Iterator[Described]:
    """Reads a folder; its files are there until the end of the block.

    Args:
        folder: ``weights.safetensors`` or ``model.ts`` with ``model.yaml``, or a MONAI
            bundle.
        name: Name to register it under.

    Raises:
        InvalidArgumentError: It is none of these, or its description is wrong.
    """
    if not (folder / DESCRIPTION).exists() and is_bundle(folder):
        bundle = read_bundle(folder)
        header = _header(bundle.described, name, where=folder)
        files = bundle.files
    else:
        header = _header(_described(folder), name, where=folder / DESCRIPTION)
        found = [file for file in _FILES if (folder / file).exists()]
        files = {file: folder / file for file in found}
    with TemporaryDirectory(prefix="histill-push-") as scratch:
        links = []
        for file, path in files.items():
            links.append(Path(scratch) / file)
            links[-1].symlink_to(path.resolve())
        yield Described(header, links)


def _described(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.exists():
        raise InvalidArgumentError.of(
            str(path),
            "is missing, and the folder is no MONAI bundle; it gives role, network, channels, "
            "classes, mean and std",
        )
    values = load_yaml(path)
    if (folder / TORCHSCRIPT).exists() and "network" in values:
        raise InvalidArgumentError.of(str(path), f"names a network, which {TORCHSCRIPT} needs not")
    return values


def _header(values: dict[str, Any], name: str, *, where: Path) -> registry_service_pb2.ModelHeader:
    fields = values | {"model_name": name}
    if (network := fields.pop("network", None)) is not None:
        fields["network_json"] = json.dumps(network)
    role = fields.get("role", "teacher")
    if isinstance(role, str):
        fields["role"] = f"MODEL_ROLE_{role.upper()}"
    channels = fields.get("channels")
    if fields.get("scaling", "constant") != "constant" and isinstance(channels, int):
        # Scaled by its own values, an image often needs no constants.
        fields = {"mean": [0.0] * channels, "std": [1.0] * channels} | fields
    header = registry_service_pb2.ModelHeader()
    try:
        ParseDict(fields, header)
    except ParseError as exc:
        raise InvalidArgumentError.of(str(where), str(exc)) from exc
    return header
